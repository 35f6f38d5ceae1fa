"""Drives the packages of other clients in a headless Chromium, from another origin than the service.

Usage: check_dialects.py BINARY CHROMIUM PAGES [DOCUMENT]

PAGES is a folder with five.js and six.js, which scripts/check-clients bundles. Every case has an upload
token of its own, so that the client has nothing else, and so that its uploads are known. With
DOCUMENT the table of results in it is compared with those of this run.
"""

import functools
import hashlib
import http.server
import json
import pathlib
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.request

from check_demo import Dev
from playwright.sync_api import sync_playwright

CLIENTS = {
    "companion5": ("five", "Uppy 5.1, `endpoint`"),
    "companion6": ("six", "Uppy 6.3, `companionEndpoint`"),
    "sign6": ("six", "Uppy 6.3, `signRequest`"),
    "activestorage": ("five", "@rails/activestorage 8.1"),
    "s3ff": ("five", "django-s3-file-field 1.1"),
    "tus": ("six", "tus-js-client 4.3"),
    "uppytus": ("six", "Uppy 6.3, @uppy/tus 6.0"),
    "dropzone": ("five", "Dropzone 6, a form"),
}
UPPY = ("companion5", "companion6", "sign6")
TUS = ("tus", "uppytus")
# The client's own completion verifies the file. Otherwise the back end's request does.
VERIFIES = {("companion5", "large"), ("companion6", "large"), ("s3ff", "small"), ("s3ff", "large"),
            ("dropzone", "small"), ("dropzone", "large"), ("tus", "small"), ("tus", "large"),
            ("uppytus", "small"), ("uppytus", "large")}
COLUMNS = ("small file", "12 MiB in parts", "wrong file", "pause and resume", "cancel", "lost response of a part")
YES, NO = "yes", "–"
REASON = "content"  # of a text that is named .mp3


class Run:
    """One case: a page of its own, with a token of its own."""

    def __init__(self, dev, browser, origin, client):
        self.dev, self.client = dev, client
        token = self.call("POST", "/api/upload-tokens", {"policy": "tracks"})["token"]
        self.base = f"{dev.url}/t/{token}"
        self.prefix = f"/t/{token}"
        self.page = browser.new_page()
        self.page.set_default_timeout(60_000)
        self.console = []
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.goto(f"{origin}/{CLIENTS[client][0]}.html")

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.dev.url + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with self.dev.opener.open(request, timeout=30) as response:
            return json.load(response)

    def run(self, file, control=None):
        arguments = [self.client, self.base, file, control]
        return self.page.evaluate("([client, base, file, control]) => run(client, base, file, control)",
                                  arguments)

    def uploads(self):
        return self.call("GET", f"{self.prefix}/api/uploads")["items"]

    def confirm(self):
        """The only upload, after the back end's request."""
        [upload] = self.uploads()
        return self.call("POST", f"{self.prefix}/api/uploads/{upload['id']}/confirm", {})

    def expect(self, truth, said):
        if not truth:
            log = self.dev.log.read_text()[-2000:]
            sys.exit(f"{self.client}: {said}\n{self.uploads()}\n{self.console}\n{log}")

    def expect_file(self, outcome, file, verified):
        self.expect(not outcome.get("error"), f"{file}: {outcome}")
        [upload] = self.uploads()
        self.expect((upload["status"] == "uploaded") == verified, f"{file} is {upload['status']}")
        if not verified:
            upload = self.confirm()
        self.expect(upload["status"] == "uploaded", f"{file} is {upload['status']}")
        sent = self.page.evaluate("async (file) => { const bytes = await fileOf(file).arrayBuffer();"
                                  "const sum = await crypto.subtle.digest('SHA-256', bytes);"
                                  "return [...new Uint8Array(sum)]; }", file)
        _, stored = self.dev.get(f"{self.prefix}/api/uploads/{upload['id']}/file")
        self.expect(hashlib.sha256(stored).digest() == bytes(sent), f"another {file} was stored")


def arrives(run, file, control=None):
    run.expect_file(run.run(file, control), file, (run.client, file) in VERIFIES)
    return YES


def large(run):
    # One PUT for 12 MiB: this client knows no parts.
    return arrives(run, "large") and ("in one piece" if run.client in ("activestorage", "dropzone") else YES)


def wrong(run):
    """A text with the name of a song: the client shows the reason where its protocol can."""
    file = "wrong-large" if run.client in UPPY + TUS else "wrong"
    outcome = run.run(file)
    if run.client in ("companion5", "s3ff", "dropzone") + TUS:
        run.expect(REASON in (outcome.get("error") or "").lower(), f"it shows {outcome}")
        [upload] = run.uploads()
        run.expect(upload["status"] in ("rejected", "cancelled"), f"it is {upload['status']}")
        return "shows the reason"
    if run.client == "companion6":
        run.expect(outcome.get("error"), "it shows no error")
        run.expect(run.uploads()[0]["status"] == "rejected", "it is not rejected")
        return "shows an error"
    run.expect(run.confirm()["status"] == "rejected", "it is not rejected")
    return "rejected later"


def paused(run):
    if run.client == "tus":
        # In another page, as after a reload: the client has kept the address.
        outcome = run.run("large", "leave")
        run.expect(outcome.get("left"), f"{outcome}")
        run.page.reload()
        return arrives(run, "large")
    return arrives(run, "large", "pause") if run.client in UPPY + TUS else NO


def cancelled(run):
    if run.client not in UPPY + TUS:
        return NO
    outcome = run.run("large", "cancel")
    run.expect(outcome.get("cancelled"), f"{outcome}")
    if run.client == "sign6":
        # The client aborts in the store, and says nothing to the service.
        return "expires"
    deadline = time.monotonic() + 30
    while run.uploads()[0]["status"] != "cancelled":
        run.expect(time.monotonic() < deadline, "it is not cancelled")
        time.sleep(0.05)
    return YES


def lost(run):
    """The store gets a part, and the client gets no response."""
    if run.client not in UPPY + TUS:
        return NO
    lose = [True]
    method, place = ("PATCH", f"{run.base}/tus") if run.client in TUS else ("PUT", run.dev.s3_url)

    def handle(route):
        if route.request.method == method and lose:
            lose.clear()
            route.fetch()
            route.abort()
        else:
            route.continue_()

    run.page.route(re.compile(re.escape(place)), handle)
    arrives(run, "large")
    run.expect(not lose, "no response was lost")
    return YES


def chunked(run):
    """Parts of a file that are sent as forms are refused."""
    outcome = run.run("large", "chunks")
    run.expect("whole file" in outcome.get("error", ""), f"{outcome}")


def serve(pages):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=pages)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def table(results):
    lines = [f"| client | {' | '.join(COLUMNS)} |", f"| --- |{' --- |' * len(COLUMNS)}"]
    lines += [f"| {CLIENTS[client][1]} | {' | '.join(cells)} |" for client, cells in results.items()]
    return "\n".join(lines)


def main(binary, chromium, pages, document=None):
    cases = (lambda run: arrives(run, "small"), large, wrong, paused, cancelled, lost)
    with tempfile.TemporaryDirectory(prefix="uc-dialects-") as folder, sync_playwright() as tools:
        dev = Dev(binary, pathlib.Path(folder), "check-clients.log")
        browser = tools.chromium.launch(executable_path=chromium,
                                        args=["--no-proxy-server", "--disable-gpu"])
        try:
            origin = serve(pages)
            results = {}
            for client in CLIENTS:
                cells = results.setdefault(client, [])
                for column, case in zip(COLUMNS, cases):
                    run = Run(dev, browser, origin, client)
                    cells.append(case(run))
                    run.page.close()
                    print(f"ok  {client}: {column}: {cells[-1]}", flush=True)
            chunked(Run(dev, browser, origin, "dropzone"))
            print("ok  dropzone: chunks are refused", flush=True)
        finally:
            browser.close()
            dev.stop()
    if document and table(results) not in pathlib.Path(document).read_text():
        sys.exit(f"{document} has not this table:\n\n{table(results)}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(*sys.argv[1:])
