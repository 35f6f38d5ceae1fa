"""Load generators: wrk (closed loop) and vegeta (open loop)."""
import os
import re
import shutil
import subprocess
from pathlib import Path

from . import host

VEGETA = "github.com/tsenart/vegeta/v12@v12.12.0"


def wrk_program() -> str:
    """The installed program, or one from the system's packages if they may be installed."""
    if not shutil.which("wrk"):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            host.fail("wrk is not installed; install it, for example with `apt-get install wrk`")
        command = ["apt-get", "install", "-y", "--no-install-recommends", "wrk"]
        env = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    return "wrk"


def vegeta_program() -> str:
    program = host.CACHE / "bin" / "vegeta"
    if not program.exists():
        if not shutil.which("go"):
            host.fail("vegeta is not in the cache, and go, which builds it, is not installed")
        env = dict(os.environ) | {"GOBIN": str(program.parent), "GOFLAGS": "-mod=mod"}
        subprocess.run(["go", "install", VEGETA], check=True, env=env)
    return str(program)


def wrk(machine, url: str, process, script="", seconds=None, warm=True, connections=64) -> dict:
    """Requests per second, latencies, failures, and the server's CPU time per request."""
    command = [wrk_program(), "-t2", f"-c{connections}", "--latency", "--timeout", "10s"]
    if script:
        path = machine.work / f"load-{abs(hash(script))}.lua"
        path.write_text(script)
        command += ["-s", str(path)]
    if warm:
        subprocess.run(command + ["-d1s", url], check=True, stdout=subprocess.DEVNULL)
    before = process.cpu_seconds()
    done = subprocess.run(command + [f"-d{seconds or machine.seconds}s", url], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    spent = process.cpu_seconds() - before
    count = int(re.search(r"(\d+) requests in", done).group(1))
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", done))
    broken = re.search(r"Socket errors: .*", done)
    if failed or broken or not count:
        host.fail(f"{url}: {failed} of {count} requests failed {broken.group(0) if broken else ''}\n"
                  f"{process.log.read_text()[-1500:]}")
    latency = dict(re.findall(r"(50|99)%\s+(\S+)", done))
    return {
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1)),
        "cpu_us": spent / count * 1e6,
        "p50": latency["50"], "p99": latency["99"],
    }


def post(body: str) -> str:
    """A wrk script whose requests all POST the same JSON body."""
    return (f"wrk.method = 'POST'\nwrk.body = [[{body}]]\n"
            "wrk.headers['Content-Type'] = 'application/json'\n")
