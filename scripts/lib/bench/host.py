"""The host of a run: builds the programs, starts the servers, and collects the figures in a table."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(
    os.environ.get("UPLOAD_COORDINATOR_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "upload-coordinator"
)
PREFIX = "UPLOAD_COORDINATOR__"


def fail(why: str):
    sys.exit(f"bench: {why}")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def get(url: str, **more):
    """The status and body of the response, even if it is an error."""
    request = urllib.request.Request(url, **more)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def cpu_of(pid) -> tuple:
    """A process's parent, and its user and system time in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Process:
    """A server of this run."""
    # The number of seconds after SIGTERM before it is killed.
    patience = 15

    def __init__(self, command, log: Path, env=None, **more):
        self.log = log
        with log.open("wb") as out:
            self.child = subprocess.Popen(
                command, env=env, stdout=more.pop("stdout", out), stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True, **more)

    def cpu_seconds(self) -> float:
        """The user and system time so far, without child processes."""
        return cpu_of(self.child.pid)[1]

    def tree_cpu_seconds(self) -> float:
        """The user and system time so far, with all running child processes."""
        seen = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                seen[int(path.name)] = cpu_of(path.name)
            except OSError:
                continue  # The process has ended.

        def is_ours(pid):
            while pid in seen and pid != self.child.pid:
                pid = seen[pid][0]
            return pid == self.child.pid

        return sum(spent for pid, (_, spent) in seen.items() if is_ours(pid))

    def memory(self, field="VmRSS") -> float:
        """Resident memory in MiB. `VmHWM` is the peak since `forget_peak`."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return 0.0

    def forget_peak(self):
        Path(f"/proc/{self.child.pid}/clear_refs").write_text("5")

    def wait_for(self, url: str, seconds=30.0) -> float:
        """Waits until the URL returns 200. Returns the seconds that this took."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if self.child.poll() is not None:
                break
            if get(url)[0] == 200:
                return time.monotonic() - began
            time.sleep(0.002)
        fail(f"{url} does not start:\n{self.log.read_text()[-2000:]}")

    def stop(self):
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGTERM)
            try:
                self.child.wait(self.patience)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait()


class Host:
    """Owns everything that a run starts, and ends it."""

    def __init__(self, seconds: int, rounds=5, profile="release", targets=("--bins", "--benches")):
        self.seconds = seconds
        self.rounds = rounds
        self.build = ["cargo", "build", "--profile", profile, "--locked", "--workspace", *targets,
                      "--message-format=json-render-diagnostics"] if targets else ["true"]
        self.figures = []
        self.processes = []
        self.servers = {}
        self.running = {}
        self.databases = 0

    def __enter__(self):
        self.work = Path(tempfile.mkdtemp(prefix="uc-bench-"))
        built = subprocess.run(self.build, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        self.programs = {}
        for line in built.stdout.splitlines():
            artifact = json.loads(line)
            if artifact.get("executable"):
                self.programs[artifact["target"]["name"]] = artifact["executable"]
        if given := os.environ.get("UPLOAD_COORDINATOR_BIN"):
            self.programs["upload-coordinator"] = given
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.work, ignore_errors=True)

    def describe(self) -> str:
        model = "unknown processor"
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        load = os.getloadavg()[0]
        return (f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GiB of memory, "
                f"load {load:.1f} at the start")

    def start(self, name: str, command, env=None, **more) -> Process:
        log = self.work / f"{name}-{len(self.processes)}.log"
        process = Process(command, log, env, **more)
        self.processes.append(process)
        return process

    def server(self, name: str) -> dict:
        """The environment that scripts/with-server sets for a server. Each server is started once."""
        if name not in self.servers:
            result = self.work / f"{name}.json"
            dump = "import json,os,time;json.dump(dict(os.environ),open(%r,'w'));time.sleep(1e6)"
            command = [ROOT / "scripts/with-server", name, "--",
                       sys.executable, "-c", dump % str(result)]
            durable = dict(os.environ) | {"WITH_DURABLE_POSTGRES": "1"}
            started = self.running[name] = self.start(name, command, durable)
            # scripts/with-server deletes the data at its end: for MinIO, hundreds of thousands of files.
            started.patience = 600
            while not (result.exists() and result.stat().st_size):
                if started.child.poll() is not None:
                    fail(f"{name} does not start:\n{started.log.read_text()[-2000:]}")
                time.sleep(0.05)
            time.sleep(0.2)
            self.servers[name] = json.loads(result.read_text())
        return self.servers[name]

    def s3(self) -> dict:
        """An embedded S3 server in a separate process."""
        if "dev" not in self.servers:
            ready = self.work / "dev.json"
            env = dict(os.environ) | {PREFIX + "RECONCILE__SCHEDULE": "off"}
            dev = self.start("dev", [
                self.programs["upload-coordinator"], "dev", "--data", self.work / "dev",
                "--bind", "127.0.0.1:0", "--s3-bind", "127.0.0.1:0", "--ready-file", ready,
            ], env)
            while not ready.exists():
                if dev.child.poll() is not None:
                    fail(f"dev does not start:\n{dev.log.read_text()[-2000:]}")
                time.sleep(0.05)
            result = json.loads(ready.read_text())
            self.servers["dev"] = {
                "TEST_S3_ENDPOINT": result["s3_url"], "TEST_S3_BUCKET": result["bucket"],
                "TEST_S3_REGION": result["region"],
                "TEST_S3_ACCESS_KEY_ID": result["access_key_id"],
                "TEST_S3_SECRET_ACCESS_KEY": result["secret_access_key"],
            }
        return self.servers["dev"]

    def database(self, kind: str) -> str:
        """The URL of a new database."""
        self.databases += 1
        if kind == "sqlite":
            return f"sqlite://{self.work}/bench-{self.databases}.sqlite"
        url = self.server("postgres")["TEST_POSTGRES_URL"]
        name = f"bench_{os.getpid()}_{self.databases}"
        subprocess.run(["psql", "-qd", url, "-c", f"CREATE DATABASE {name}"], check=True)
        base, _, query = url.partition("?")
        return base.rsplit("/", 1)[0] + "/" + name + ("?" + query if query else "")

    def settings(self, url: str, store: dict, **more) -> dict:
        """The environment for `serve`."""
        ours = {
            "DATABASE__URL": url,
            "SERVER__BIND": f"127.0.0.1:{free_port()}",
            "STORAGE__DEFAULT__KIND": "s3",
            "STORAGE__DEFAULT__ENDPOINT": store["TEST_S3_ENDPOINT"],
            "STORAGE__DEFAULT__BUCKET": store["TEST_S3_BUCKET"],
            "STORAGE__DEFAULT__REGION": store["TEST_S3_REGION"],
            "STORAGE__DEFAULT__PATH_STYLE": "true",
            "STORAGE__DEFAULT__ACCESS_KEY_ID": store["TEST_S3_ACCESS_KEY_ID"],
            "STORAGE__DEFAULT__SECRET_ACCESS_KEY": store["TEST_S3_SECRET_ACCESS_KEY"],
            "RECONCILE__SCHEDULE": "off",
            "RECONCILE__AUDIT_SCHEDULE": "off",
            "LIMITS__REQUESTS_PER_SECOND": "0",
            # One line for each request, as in production. It is written to a file.
            "TELEMETRY__LOG_FORMAT": "json",
        } | more
        others = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        return others | {PREFIX + key: value for key, value in ours.items()}

    def settings_of_new(self, database: str, store: dict, **more) -> dict:
        """The environment for `serve` with a new database and a new prefix, because the marker in the
        bucket binds a prefix to one database."""
        url = self.database(database)
        return self.settings(url, store, POLICIES__TRACKS__PREFIX=f"bench-{self.databases}/", **more)

    def serve(self, env: dict, program=None) -> tuple:
        """Starts a service. Returns its process, its address, and the seconds until it was ready."""
        command = [program or self.programs["upload-coordinator"], "serve", "--migrate"]
        process = self.start("serve", command, env)
        address = "http://" + env[PREFIX + "SERVER__BIND"]
        took = process.wait_for(address + "/readyz")
        return process, address, took

    def record(self, name: str, value: str, target="", met=None, limit="", **raw):
        """Adds a row to the table, and prints it."""
        self.figures.append(
            {"name": name, "value": value, "target": target, "met": met, "limit": limit} | raw)
        verdict = {True: "met", False: "MISSED", None: ""}[met]
        print(f"{name}: {value}  [{target} {verdict}]  {limit}", flush=True)

    def print_table(self):
        print("\n| figure | measured | target | | limit in the same run |\n|---|---|---|---|---|")
        for row in self.figures:
            verdict = {True: "met", False: "**missed**", None: ""}[row["met"]]
            print(f"| {row['name']} | {row['value']} | {row['target']} | {verdict} "
                  f"| {row['limit']} |")
