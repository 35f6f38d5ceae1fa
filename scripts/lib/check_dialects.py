"""Uploads with other projects' client packages in a headless Chromium, from another origin than the service.

Usage: check_dialects.py BINARY CHROMIUM PAGES DOCUMENT [--write]

PAGES is a folder with five.js, six.js and react.js, which scripts/check-clients bundles. Every case has
its own upload token, so that the client has no other rights, and the case can list exactly its uploads. The
table of results in DOCUMENT must match this run; --write writes it. The code of the recipes in DOCUMENT is
run too. With TEST_S3_ENDPOINT the service uses that store (scripts/with-server), otherwise the embedded one.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.parse import urlsplit

from check_demo import SETTINGS, Dev
from playwright.sync_api import sync_playwright
from real_store import Served, serve

CLIENTS = {
    "companion5": ("five", "Uppy 5.1, `endpoint`"),
    "companion6": ("six", "Uppy 6.3, `companionEndpoint`"),
    "sign6": ("six", "Uppy 6.3, `signRequest`"),
    "filepond": ("five", "FilePond 4.32"),
    "activestorage": ("five", "@rails/activestorage 8.1"),
    "s3ff": ("five", "django-s3-file-field 1.1"),
    "tus": ("six", "tus-js-client 4.3"),
    "uppytus": ("six", "Uppy 6.3, @uppy/tus 6.0"),
    "dropzone": ("five", "Dropzone 6, a form"),
    "react-dropzone": ("react", "react-dropzone 20, the function below"),
    "react-antd": ("react", "antd 6 `Upload`, the function below"),
}
UPPY = ("companion5", "companion6", "sign6")
TUS = ("tus", "uppytus")
REACT = ("react-dropzone", "react-antd")
# The files of these clients pass through the service.
DIRECT = ("filepond", "dropzone")
# In these cases the client's last request verifies the file. In all others the back end confirms it.
VERIFIES = {("companion5", "large"), ("companion6", "large")} | {
    (client, file) for client in ("s3ff", *TUS, *DIRECT, *REACT) for file in ("small", "large")}
# These clients show why a file is refused.
SHOW_REASON = ("companion5", "s3ff", *TUS, *DIRECT, *REACT)
YES, NO = "yes", "–"
ERROR_THEN_YES = "an error, then yes"
REASON = "content"  # part of the reason why a text named .mp3 is refused
DIALECTS = ("ACTIVESTORAGE", "COMPANION", "FILEPOND", "FORM", "S3FF", "TUS")
ENABLED = {f"DIALECTS__{name}__ENABLED": "true" for name in DIALECTS}
SHORT = 5  # seconds: the lifetime of URLs in the cases of `expired`


class Run:
    """One case, with its own page and its own token."""

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
        """The uploads of this case, the newest first."""
        return self.call("GET", f"{self.prefix}/api/uploads")["items"]

    def confirm(self):
        """Confirms the newest upload, as a back end does. Returns the upload."""
        upload = self.uploads()[0]
        return self.call("POST", f"{self.prefix}/api/uploads/{upload['id']}/confirm", {})

    def expect(self, truth, said):
        if not truth:
            log = self.dev.log.read_text()[-2000:]
            sys.exit(f"{self.client}: {said}\n{self.uploads()}\n{self.console}\n{log}")

    def expect_file(self, outcome, file):
        self.expect(not failed(outcome), f"{file}: {outcome}")
        upload = self.uploads()[0]
        verified = (self.client, file) in VERIFIES
        self.expect((upload["status"] == "uploaded") == verified, f"the status of {file} is {upload['status']}")
        if not verified:
            upload = self.confirm()
        self.expect(upload["status"] == "uploaded", f"the status of {file} is {upload['status']}")
        sent = self.page.evaluate("async (file) => { const bytes = await fileOf(file).arrayBuffer();"
                                  "const sum = await crypto.subtle.digest('SHA-256', bytes);"
                                  "return [...new Uint8Array(sum)]; }", file)
        _, stored = self.dev.get(f"{self.prefix}/api/uploads/{upload['id']}/file")
        self.expect(hashlib.sha256(stored).digest() == bytes(sent), f"the stored file differs from {file}")

    @property
    def file_methods(self):
        """The methods of requests that carry a file."""
        return ("PATCH",) if self.client in TUS else ("PUT", "POST")

    @property
    def file_url(self):
        """How the URLs of these requests begin."""
        if self.client in DIRECT + TUS:
            return f"{self.base}/{'tus' if self.client in TUS else 'f'}"
        return self.dev.s3_url

    def disturb(self, disturbance):
        """Calls `disturbance` with the first request that carries a file. The returned list is empty after that."""
        left = [True]

        def handle(route):
            if route.request.method in self.file_methods and left:
                left.clear()
                disturbance(route)
            else:
                route.continue_()

        self.page.route(re.compile(re.escape(self.file_url)), handle)
        return left

    def disturbed(self, file, disturbance):
        """Sends a file. If the client shows an error, sends it again, as a user does. Returns the result."""
        left = self.disturb(disturbance)
        outcome, cell = self.run(file), YES
        self.expect(not left, "the client sent no request with a file")
        if failed(outcome):
            outcome, cell = self.run(file), ERROR_THEN_YES
        self.expect_file(outcome, file)
        return cell


def failed(outcome):
    """Whether the client reports an error. Its text can be empty."""
    return outcome.get("error") is not None


def small(run):
    run.expect_file(run.run("small"), "small")
    return YES


def large(run):
    run.expect_file(run.run("large", "chunks" if run.client == "filepond" else None), "large")
    # These clients send 12 MiB in one request, because they do not support parts.
    return "in one piece" if run.client in ("activestorage", "dropzone", *REACT) else YES


def wrong(run):
    """A text with the name of a song. The client shows the reason, if its protocol can carry it."""
    file = "wrong-large" if run.client in UPPY + TUS else "wrong"
    outcome = run.run(file)
    if run.client in SHOW_REASON:
        run.expect(REASON in (outcome.get("error") or "").lower(), f"the client shows {outcome}")
        [upload] = run.uploads()
        run.expect(upload["status"] in ("rejected", "cancelled"), f"the status is {upload['status']}")
        return "shows the reason"
    if run.client == "companion6":
        run.expect(failed(outcome), "the client shows no error")
        run.expect(run.uploads()[0]["status"] == "rejected", "the upload is not rejected")
        return "shows an error"
    run.expect(run.confirm()["status"] == "rejected", "the upload is not rejected")
    return "rejected later"


def paused(run):
    if run.client not in UPPY + TUS:
        return NO
    run.expect_file(run.run("large", "pause"), "large")
    return YES


def reloaded(run):
    """Reloads the page: during an upload, which then continues, or after it (FilePond restores the file by id)."""
    if run.client in UPPY + TUS:
        outcome = run.run("large", "leave")
        run.expect(outcome.get("left"), f"{outcome}")
        run.page.reload()
        # tus-js-client gets the file again and finds its upload. Uppy restores both from the browser's storage.
        run.expect_file(run.run("large", None if run.client == "tus" else "return"), "large")
        run.expect(len(run.uploads()) == 1, "the client created another upload")
        return YES
    if run.client != "filepond":
        return NO
    sent = run.run("small")
    run.page.reload()
    shown = run.page.evaluate("([base, id]) => restore(base, id)", [run.base, sent["id"]])
    run.expect((shown["name"], shown["size"]) == ("für silence.mp3", 100_000), f"the page shows {shown}")
    return "restores the file"


def cancelled(run):
    if run.client not in UPPY + TUS and run.client != "filepond":
        return NO
    outcome = run.run("large", "cancel")
    run.expect(outcome.get("cancelled"), f"{outcome}")
    if run.client == "sign6":
        # The client aborts the upload in the store, and does not inform the service.
        return "expires"
    expected = "removed" if run.client == "filepond" else "cancelled"
    deadline = time.monotonic() + 30
    while run.uploads()[0]["status"] != expected:
        run.expect(time.monotonic() < deadline, f"the upload is not {expected} after 30 s")
        time.sleep(0.05)
    return "reverts" if run.client == "filepond" else YES


def lost(run):
    """The store or the service stores the bytes, and the client gets no response."""
    # Chromium's protocol, because Playwright's `route.fetch` would send the request without the file.
    session = run.page.context.new_cdp_session(run.page)
    accepted = []

    def on_response(event):
        paused = {"requestId": event["requestId"]}
        if event["request"]["method"] in run.file_methods and not accepted:
            accepted.append(event.get("responseStatusCode"))
            session.send("Fetch.failRequest", paused | {"errorReason": "ConnectionReset"})
        else:
            session.send("Fetch.continueRequest", paused)

    session.on("Fetch.requestPaused", on_response)
    pattern = {"urlPattern": f"{run.file_url}*", "requestStage": "Response"}
    session.send("Fetch.enable", {"patterns": [pattern]})
    file, cell = "large" if run.client in UPPY + TUS else "small", YES
    outcome = run.run(file)
    run.expect(accepted and accepted[0] in (200, 201, 204), f"the response that was lost: {accepted}")
    if failed(outcome):
        outcome, cell = run.run(file), ERROR_THEN_YES
    run.expect_file(outcome, file)
    return cell


def expired(run):
    """The request is sent after its URL has expired."""
    if run.client in DIRECT + TUS:
        return NO

    def delay(route):
        time.sleep(SHORT + 2)
        route.continue_()

    return run.disturbed("large" if run.client in UPPY else "small", delay)


CASES = {
    "small file": small, "12 MiB in parts": large, "wrong file": wrong, "pause and resume": paused,
    "page reload": reloaded, "cancel": cancelled, "lost response": lost, "expired URL": expired,
}


def chunked(run):
    """Chunks of a file that Dropzone sends as separate forms are refused."""
    outcome = run.run("large", "chunks")
    run.expect("whole file" in outcome.get("error", ""), f"{outcome}")


TABLE = re.compile(r"(?<=<!-- The table of scripts/check-clients. -->\n)(?:\|.*\n)+")


def table(results):
    lines = [f"| client | {' | '.join(CASES)} |", f"| --- |{' --- |' * len(CASES)}"]
    lines += [f"| {CLIENTS[client][1]} | {' | '.join(cells)} |" for client, cells in results.items()]
    return "".join(f"{line}\n" for line in lines)


def check_recipes(document, pages, dev):
    """Checks that the document contains the function of native.js, and that its block for boto3 works."""
    text = document.read_text()
    function = (pathlib.Path(pages) / "five" / "native.js").read_text().split("\n", 1)[1]
    if function not in text:
        sys.exit(f"{document} does not contain the function of scripts/lib/dialects/native.js")
    block = re.search(r"^```python boto3\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
    block = block.replace("http://127.0.0.1:8080", dev.url).replace("http://127.0.0.1:9000", dev.s3_url)
    keys = {"AWS_ACCESS_KEY_ID": dev.addresses["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": dev.addresses["secret_access_key"],
            "AWS_DEFAULT_REGION": dev.addresses["region"]}
    with tempfile.TemporaryDirectory(prefix="uc-boto3-") as folder:
        song = b"\xff\xfb\x90\x64" + bytes(413)
        (pathlib.Path(folder) / "song.mp3").write_bytes(song * 30_000)
        done = subprocess.run([sys.executable, "-c", block], cwd=folder, env=os.environ | keys,
                              capture_output=True, text=True, timeout=60)
    if done.returncode or done.stdout.strip() != "uploaded":
        sys.exit(f"the block for boto3 failed: {done.stdout}{done.stderr[-2000:]}")
    print("ok  recipes: the JavaScript function and boto3", flush=True)


def check_rails(document, run):
    """Runs the block for a Rails back end, which confirms and attaches an upload of ActiveStorage."""
    if not shutil.which("ruby"):
        print("skipped  the block for Rails: ruby is not installed", flush=True)
        return
    block = re.search(r"^```ruby rails\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)[1]
    host, port = urlsplit(run.dev.url).hostname, urlsplit(run.dev.url).port
    block = block.replace('"uploads.example.com", 443, use_ssl: true', f'"{host}", {port}')
    for file, expected in (("small", ("uploaded", "")), ("wrong", ("rejected", "is not a song"))):
        id = run.run(file)["id"]
        subject = f"song:{id}"
        before = ('require "json"; require "net/http"; errors = []\n'
                  f'params = {{song: {{file: "{id}"}}}}\n'
                  'errors.define_singleton_method(:add) { |field, what| push(what) }\n'
                  f'song = Struct.new(:id, :errors).new("{id}", errors)\n')
        done = subprocess.run(["ruby", "-e", f"{before}{block}\nputs errors"], capture_output=True, text=True,
                              env=os.environ | {"UPLOADS_API_KEY": "none"}, timeout=60)
        run.expect(done.returncode == 0 and done.stdout.strip() == expected[1], f"{done.stdout}{done.stderr}")
        status = run.uploads()[0]["status"]
        run.expect(status == expected[0], f"the status is {status}")
        if status == "uploaded":
            attached = run.call("GET", f"/api/attachments/{subject}")
            run.expect(attached["current"]["id"] == id, f"{attached}")
    print("ok  activestorage: the block for Rails", flush=True)


def main(binary, chromium, pages, document, write=None):
    document = pathlib.Path(document)
    embedded = "TEST_S3_ENDPOINT" not in os.environ
    short = SETTINGS | {f"DIALECTS__{name}__URL_TTL": f"{SHORT}s" for name in DIALECTS}
    short |= {"POLICIES__TRACKS__URL_TTL": f"{SHORT}s"}
    services = []
    with tempfile.TemporaryDirectory(prefix="uc-dialects-") as folder, sync_playwright() as tools:
        origin = serve(pages)
        for name, settings in (("usual", SETTINGS), ("short", short)):
            own = pathlib.Path(folder) / name
            own.mkdir()
            log = f"check-clients-{name}.log"
            services.append(Dev(binary, own, log, settings) if embedded
                            else Served(binary, own, log, settings | ENABLED, [origin], clients=["uppy"]))
        usual, brief = services
        browser = tools.chromium.launch(executable_path=chromium,
                                        args=["--no-proxy-server", "--disable-gpu"])
        try:
            if embedded:
                check_recipes(document, pages, usual)
                check_rails(document, Run(usual, browser, origin, "activestorage"))
            results = {}
            for client in CLIENTS:
                cells = results.setdefault(client, [])
                for column, case in CASES.items():
                    run = Run(brief if case is expired else usual, browser, origin, client)
                    cells.append(case(run))
                    run.page.close()
                    print(f"ok  {client}: {column}: {cells[-1]}", flush=True)
            chunked(Run(usual, browser, origin, "dropzone"))
            print("ok  dropzone: chunks are refused", flush=True)
        finally:
            browser.close()
            for service in services:
                service.stop()
    if write:
        document.write_text(TABLE.sub(lambda _: table(results), document.read_text()))
    elif table(results) not in document.read_text():
        sys.exit(f"{document} does not contain this table (--write writes it):\n\n{table(results)}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(*sys.argv[1:])
