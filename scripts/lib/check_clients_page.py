"""Runs the back end of docs/clients.md, and its page in a headless Chromium, on another origin than the service.

Usage: check_clients_page.py BINARY CHROMIUM

The two blocks are used without changes, except for their ports and the host of the page. The host is not
localhost, because `dev` allows every origin on localhost.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from check_demo import PATIENCE, Dev, mp3
from playwright.sync_api import expect, sync_playwright

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "clients.md"
HOST = "app.example.com"


def block(fence):
    """The only block of the document with this fence."""
    found = re.findall(rf"^```{re.escape(fence)}\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    if len(found) != 1:
        sys.exit(f"{DOCUMENT}: expected one block ```{fence}, found {len(found)}")
    return found[0]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def replaced(text, changes):
    for old, new in changes:
        if old not in text:
            sys.exit(f"{DOCUMENT}: the block of the back end does not contain {old}")
        text = text.replace(old, new)
    return text


def until_listening(port, process):
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", int(port)), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the back end does not start")
            time.sleep(0.05)


def main(binary, chromium):
    with tempfile.TemporaryDirectory(prefix="uc-clients-") as folder, sync_playwright() as tools:
        folder = pathlib.Path(folder)
        dev = Dev(binary, folder, "check-clients-page.log")
        port = free_port()
        origin = f"http://{HOST}:{port}"
        code = replaced(block("python back-end"), [
            ("http://localhost:8000", origin), ("http://127.0.0.1:8080", dev.url), ("8000)", f"{port})"),
        ])
        (folder / "back_end.py").write_text(code)
        (folder / "page.html").write_text(block("html page"))
        song = folder / "song.mp3"
        song.write_bytes(mp3(200_000))
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        back_end = subprocess.Popen([sys.executable, "back_end.py"], cwd=folder, env=environment)
        arguments = ["--no-proxy-server", "--disable-gpu", f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]
        browser = tools.chromium.launch(executable_path=chromium, args=arguments)
        try:
            until_listening(port, back_end)
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            console = []
            page.on("console", lambda message: console.append(message.text))
            page.goto(origin)
            page.set_input_files("#song", str(song))
            try:
                expect(page.locator("#outcome")).to_have_text("uploaded", timeout=PATIENCE)
            except AssertionError:
                sys.exit(f"the page does not upload: {console}\n{dev.log.read_text()[-3000:]}")
            prefix = re.search(r"http://[^`]*/t/upt_\w+", page.content())[0]
            # The token allows nothing else: no access to its owner's records, and no second upload.
            statuses = page.evaluate("""async (prefix) => {
                const create = { method: "POST", headers: { "Content-Type": "application/json" },
                    body: JSON.stringify({ filename: "more.mp3" }) };
                const tracks = await fetch(`${prefix}/api/tracks`);
                const more = await fetch(`${prefix}/api/uploads`, create);
                return [tracks.status, more.status, (await more.json()).type];
            }""", prefix)
            assert statuses == [403, 403, "/problems/token-exhausted"], statuses
            uploads = dev.uploads()
            assert [upload["attach_to"] for upload in uploads] == ["song:42"], uploads
            _, stored = dev.get("/api/attachments/song:42/file")
            assert stored == song.read_bytes(), "the stored file differs from the sent file"
        finally:
            browser.close()
            back_end.terminate()
            back_end.wait(15)
            dev.stop()
        log = dev.log.read_text()
        secret = prefix.rsplit("/", 1)[1]
        assert "/t/[redacted]/api/uploads" in log and secret not in log, "the log contains the token"
        print("ok  the page of docs/clients.md, on another origin")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(*sys.argv[1:])
