"""Uploads with client.js in a headless Chromium, to the store in TEST_S3_*, from another origin than the service.

Usage: check_client_js.py BINARY CHROMIUM

client.js is used without changes. `doctor --fix cors` sets the CORS rule of the store.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from check_demo import MIB, PART, PATIENCE, SETTINGS, mp3
from playwright.sync_api import sync_playwright
from real_store import Served, serve

CLIENT = pathlib.Path(__file__).parents[2] / "src" / "http" / "api" / "demo" / "client.js"
PAGE = """<!doctype html><title>client.js</title><input type="file" multiple>
<script type="module">
import * as client from "./client.js";
globalThis.client = client;
// client.js gets a network error instead of the responses to the next `lost` PUTs.
globalThis.lost = 0;
globalThis.XMLHttpRequest = class extends XMLHttpRequest {
  set onload(handler) { super.onload = () => (globalThis.lost-- > 0 ? this.onerror() : handler()); }
};
</script>
"""
# Uploads the first chosen file, or all of them if `many` is set. Aborts after `stopAfter` bytes are sent.
UPLOAD = """async ({ api, id, stopAfter, many }) => {
    client.connect({ api });
    const { files } = document.querySelector("input");
    const seen = { retries: [], sent: 0 };
    const stop = new AbortController();
    const options = {
        id, signal: stop.signal,
        onUpload: (upload) => { seen.id = upload.id; },
        onRetry: (error) => seen.retries.push(error.message),
        onProgress: (sent) => {
            seen.sent = Math.max(seen.sent, sent);
            if (stopAfter && sent >= stopAfter) stop.abort();
        },
    };
    try {
        if (many) seen.results = await client.uploadFiles(files, options);
        else seen.upload = await client.uploadFile(files[0], options);
    } catch (error) {
        seen.error = `${error.name}: ${error.message}`;
    }
    return seen;
}"""


class Page:
    """A page with client.js. Records its PUTs to the store, and the responses of the service."""

    def __init__(self, service, browser, origin):
        self.service, self.page = service, browser.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.responses, self.puts = [], []
        self.page.on("response", self.record_response)
        self.page.on("requestfinished", self.finished)
        self.page.goto(f"{origin}/page.html")
        self.page.wait_for_function("globalThis.client !== undefined")

    def signed(self):
        """The headers that the service returned for each signed URL. Bodies are read here, because an event handler
        cannot wait for them."""
        signed = {}
        for response in self.responses:
            body = response.json()
            uploads = [result.get("upload") or {} for result in body.get("results", [])] or [body]
            requests = [upload.get("request") or {} for upload in uploads] + body.get("parts", [])
            signed |= {request["url"]: request["headers"] for request in requests if "url" in request}
        return signed

    def record_response(self, response):
        if response.url.startswith(self.service.url) and response.request.method == "POST":
            self.responses.append(response)

    def finished(self, request):
        if request.method == "PUT" and request.url.startswith(self.service.s3_url):
            self.puts.append(request)

    def statuses(self):
        return [request.response().status for request in self.puts]

    def upload(self, *files, **options):
        self.page.set_input_files("input", [str(file) for file in files])
        return self.page.evaluate(UPLOAD, {"api": f"{self.service.url}/api", **options})

    def expect_file(self, upload, file):
        assert upload and upload["status"] == "uploaded", upload
        _, stored = self.service.get(f"/api/uploads/{upload['id']}/file")
        assert stored == file.read_bytes(), "the stored file differs from the sent file"

    def expect_signed_headers(self, count):
        """There were `count` PUTs. All of them succeeded, with the URL and the headers that the service returned."""
        assert len(self.puts) == count and max(self.statuses()) < 300, f"expected {count} successful PUTs, got {self.statuses()}"
        signed = self.signed()
        for put in self.puts:
            sent = put.all_headers()
            for name, value in signed[put.url].items():
                assert sent.get(name.lower()) == value, f"{name} is {sent.get(name.lower())}, not {value}"


def whole(page, files):
    page.expect_file(page.upload(files.small).get("upload"), files.small)
    page.expect_signed_headers(1)
    assert all(page.signed().values()), "no header was signed"


def parts(page, files):
    seen = page.upload(files.large)
    page.expect_file(seen.get("upload"), files.large)
    page.expect_signed_headers(files.parts)
    assert seen["sent"] == files.large.stat().st_size and not seen["retries"], seen


def wrong(page, files):
    upload = page.upload(files.text)["upload"]
    assert (upload["status"], upload["reason"]) == ("rejected", "content-mismatch"), upload


def paused(page, files):
    session = page.page.context.new_cdp_session(page.page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", {
        "offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 8 * MIB})
    # Three parts are sent at the same time, so at least one is complete after this number of bytes.
    seen = page.upload(files.large, stopAfter=3 * PART + 1)
    assert "AbortError" in seen.get("error", ""), seen
    sent_before = len(page.puts)
    assert 0 < sent_before < files.parts, f"{sent_before} parts were sent before the pause"
    seen = page.upload(files.large, id=seen["id"])
    page.expect_file(seen.get("upload"), files.large)
    assert not seen["retries"], seen
    page.expect_signed_headers(files.parts)


def lost_whole(page, files):
    """The page drops the response. Playwright's `route` cannot do this, because it does not get the file's bytes."""
    page.page.evaluate("globalThis.lost = 1")
    seen = page.upload(files.small)
    page.expect_file(seen.get("upload"), files.small)
    assert seen["retries"] == ["The connection to the store broke"], seen
    page.expect_signed_headers(1)


def lost_part(page, files):
    page.page.evaluate("globalThis.lost = 1")
    seen = page.upload(files.large)
    page.expect_file(seen.get("upload"), files.large)
    assert seen["retries"] == ["The connection to the store broke"], seen
    page.expect_signed_headers(files.parts + 1)


def resumed_at_the_end(page, files):
    """The page is closed after the PUT of a whole file and before its confirmation."""
    with page.page.expect_response(lambda r: r.request.method == "POST" and r.url.endswith("/confirm")):
        page.page.route("**/confirm", lambda route: route.fulfill(status=403, json={"title": "away"}))
        first = page.upload(files.small)
    assert first.get("error") == "Problem: away", first
    page.page.unroute("**/confirm")
    seen = page.upload(files.small, id=first["id"])
    page.expect_file(seen.get("upload"), files.small)


def many(page, files):
    sent = [files.small, files.large, files.text]
    results = page.upload(*sent, many=True)["results"]
    assert [result["status"] for result in results] == ["fulfilled"] * 3, results
    for result, file in zip(results[:2], sent):
        page.expect_file(result["value"], file)
    assert results[2]["value"]["status"] == "rejected", results


CASES = [
    ("a whole file, with the headers of its request", whole),
    ("a file in parts", parts),
    ("a text named .mp3: rejected", wrong),
    ("paused and continued: no part is sent twice", paused),
    ("the response to a whole file is lost", lost_whole),
    ("the response to a part is lost", lost_part),
    ("continued after the last byte", resumed_at_the_end),
    ("many files", many),
]


def foreign(page, files):
    """A page that the CORS rule does not name cannot send anything to the store."""
    seen = page.upload(files.small)
    assert seen.get("error") == "StoreError: The connection to the store broke", seen
    assert not page.puts and len(page.signed()) > 1, page.statuses()


class Files:
    def __init__(self, folder):
        self.small, self.text, self.large = (folder / name for name in ("für dich.mp3", "notes.mp3", "long.mp3"))
        self.small.write_bytes(mp3(160_000))
        self.text.write_text("Only words.\n" * 1000)
        self.large.write_bytes(mp3(24 * MIB))
        self.parts = -(-self.large.stat().st_size // PART)


def main(binary, chromium):
    kind = os.environ["TEST_S3_KIND"]
    with tempfile.TemporaryDirectory(prefix="uc-client-js-") as folder, sync_playwright() as tools:
        folder = pathlib.Path(folder)
        pages = folder / "pages"
        pages.mkdir()
        shutil.copy(CLIENT, pages)
        (pages / "page.html").write_text(PAGE)
        origin, other = serve(pages), serve(pages)
        files = Files(folder)
        service = Served(binary, folder, f"check-client-js-{kind}.log", SETTINGS, [origin, other], [origin])
        # Only Azurite is known to apply the CORS rule to each origin.
        cases = [(name, origin, case) for name, case in CASES]
        if kind == "azurite":
            cases.append(("a page that the CORS rule does not name: refused", other, foreign))
        browser = tools.chromium.launch(executable_path=chromium,
                                        args=["--no-proxy-server", "--disable-gpu"])
        try:
            for name, where, case in cases:
                began = time.monotonic()
                with contextlib.closing(browser.new_context()) as context:
                    page = Page(service, context, where)
                    try:
                        case(page, files)
                    except BaseException:
                        print(f"FAILED  client.js on {kind}: {name}\n{page.statuses()}\n"
                              f"{service.log.read_text()[-3000:]}", file=sys.stderr)
                        raise
                print(f"ok  client.js on {kind}: {name} ({time.monotonic() - began:.1f} s)", flush=True)
        finally:
            browser.close()
            service.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(*sys.argv[1:])
