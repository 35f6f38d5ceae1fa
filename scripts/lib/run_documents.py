"""Runs the marked blocks of the documents.

  sh run, js run, python run   run in the order of the page, in the folder of a running
                               `upload-coordinator dev`, as a reader would do. All shell blocks of a page share
                               one shell; adjacent blocks of js, or of python, are one program
  toml check                   must pass `config check`

A comment `<!-- sh run` ... `-->` is run like a block, but readers do not see it. It is for preparations and
checks. `. ./s3.env` there makes later commands faster, see `Service.s3_settings`. `127.0.0.1:8080` and
`127.0.0.1:9000` are replaced with the addresses of the process, which uses free ports.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MARKED = re.compile(r"^(?:```|<!-- )(\S+) (?:run|check)\n(.*?)^(?:```|-->)$", re.DOTALL | re.MULTILINE)
PROGRAMS = {"js": "node --input-type=module -", "python": "python3 -"}
START_SECONDS = 60
PAGE_SECONDS = 120
PAGES_AT_ONCE = 6


def blocks(text):
    """(line, language, content) of each marked block."""
    for match in MARKED.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1], match[2]


def as_script(found):
    """The blocks as one shell script, which writes the line of each block to descriptor 3."""
    steps = []
    for line, language, content in found:
        if language in PROGRAMS and steps and steps[-1][1] == language:
            steps[-1][2] += content
        else:
            steps.append([line, language, content])
    script = "set -eu\n"
    for line, language, content in steps:
        if language != "sh":
            content = f"{PROGRAMS[language]} <<'END OF BLOCK'\n{content}END OF BLOCK\n"
        script += f"echo {line} >&3\n{content}\n"
    return script


def environment(folder, binary):
    """The environment of a page: no settings of the caller, and the binary on the path."""
    programs = Path(folder) / "bin"
    programs.mkdir(exist_ok=True)
    link = programs / "upload-coordinator"
    if not link.exists():
        link.symlink_to(Path(binary).resolve())
    own = {k: v for k, v in os.environ.items() if not k.startswith(("UPLOAD_COORDINATOR__", "AWS_"))}
    return own | {"PATH": f"{programs}:{own['PATH']}"}


def check_configuration(folder, binary, content):
    """The error of `config check` on a block, or None. If the block has no bucket, one is added."""
    path = Path(folder) / "check.toml"
    path.write_text(content)
    env = environment(folder, binary) | {"UPLOAD_COORDINATOR__STORAGE__DEFAULT__BUCKET": "uploads"}
    done = subprocess.run([binary, "config", "check", "--config", path], capture_output=True, text=True, env=env)
    return (done.stderr or done.stdout).strip() if done.returncode else None


class Service:
    """`dev` in a folder, on free ports."""

    def __init__(self, folder, binary, env):
        ready = Path(folder) / "ready.json"
        self.log = open(Path(folder) / "service.log", "w")
        self.process = subprocess.Popen(
            [binary, "dev", "--bind", "127.0.0.1:0", "--s3-bind", "127.0.0.1:0", "--ready-file", ready],
            cwd=folder, env=env, stdout=self.log, stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready(ready):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the service does not start: {(Path(folder) / 'service.log').read_text()[-500:]}")
            time.sleep(0.1)
        self.addresses = json.loads(ready.read_text())

    @staticmethod
    def is_ready(path):
        try:
            return bool(json.loads(path.read_text()))
        except (OSError, ValueError):
            return False

    def s3_settings(self):
        """Shell commands that set the store of this process as an S3 store for later commands. A command
        that opens it as an embedded store first waits 5 s for the lock of the index."""
        settings = {
            "KIND": "s3", "ENDPOINT": self.addresses["s3_url"], "BUCKET": self.addresses["bucket"],
            "REGION": self.addresses["region"], "ACCESS_KEY_ID": self.addresses["access_key_id"],
            "SECRET_ACCESS_KEY": self.addresses["secret_access_key"],
        }
        return "".join(f"export UPLOAD_COORDINATOR__STORAGE__DEFAULT__{key}='{value}'\n" for key, value in settings.items())

    def with_own_ports(self, text):
        for usual, key in (("127.0.0.1:8080", "url"), ("127.0.0.1:9000", "s3_url")):
            text = text.replace(usual, self.addresses[key].removeprefix("http://"))
        return text

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.log.close()


def run_page(page, binary):
    """(line, reason) of the first block that fails, or None; and the number of blocks."""
    found = list(blocks(page.read_text()))
    steps = [block for block in found if block[1] != "toml"]
    if any(language == "js" for _, language, _ in steps) and not shutil.which("node"):
        print(f"{page.name}: its blocks of js are skipped, because node is not installed")
        steps = [block for block in steps if block[1] != "js"]
    with tempfile.TemporaryDirectory(prefix="uc-docs-") as folder:
        for line, language, content in found:
            if language == "toml" and (error := check_configuration(folder, binary, content)):
                return (line, error), len(found)
        if not steps:
            return None, len(found)
        env = environment(folder, binary)
        service = Service(folder, binary, env)
        try:
            (Path(folder) / "s3.env").write_text(service.s3_settings())
            lines, output = Path(folder) / "lines", Path(folder) / "output"
            with open(output, "w") as out:
                done = subprocess.run(
                    ["bash", "-c", f"exec 3>'{lines}'\n" + service.with_own_ports(as_script(steps))],
                    cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                    timeout=PAGE_SECONDS,
                )
            if done.returncode:
                line = lines.read_text().split()[-1]
                return (line, f"exit code {done.returncode}: {output.read_text()[-800:].strip()}"), len(found)
        except subprocess.TimeoutExpired:
            return (lines.read_text().split()[-1], f"does not end within {PAGE_SECONDS} s"), len(found)
        finally:
            service.stop()
    return None, len(found)


def run(root, pages, binary):
    """A sentence for each failure, and the number of blocks."""
    failed, count = [], 0
    # In parallel, because a page mostly waits for a service to start or to stop.
    with ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
        results = list(pool.map(lambda page: run_page(page, binary), pages))
    for page, (error, blocks_of_page) in zip(pages, results):
        count += blocks_of_page
        if error:
            failed.append(f"{page.relative_to(root)}:{error[0]}: {error[1]}")
    return failed, count
