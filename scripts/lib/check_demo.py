"""Drives /demo in a headless Chromium. Usage: check_demo.py BINARY CHROMIUM [SCREENSHOTS]

Each check has a separate window. In each of them, the requests of the page and its messages on the
console are checked.
"""

import base64
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import expect, sync_playwright

MIB = 1 << 20
PART = 5 * MIB
MAX_SIZE = 40 * MIB
PATIENCE = 60_000  # ms, enough for a busy machine
SETTINGS = {
    "POLICIES__TRACKS__MULTIPART_THRESHOLD": "6MiB",
    "POLICIES__TRACKS__PART_SIZE": "5MiB",
    "POLICIES__TRACKS__MAX_SIZE": "40MiB",
    "RECONCILE__SCHEDULE": "off",
    "RECONCILE__AUDIT_SCHEDULE": "off",
    "RECONCILE__RUN_AT_START": "false",
}
# One frame of silence: MPEG 1 layer III, 128 kbit/s at 44.1 kHz. 26 ms.
FRAME = b"\xff\xfb\x90\x64" + bytes(413)


def mp3(size):
    return FRAME * (size // len(FRAME))


class Dev:
    """`dev` in a separate folder, on free ports."""

    def __init__(self, binary, folder, log="check-demo.log", settings=SETTINGS):
        ready = folder / "ready.json"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("UPLOAD_COORDINATOR__")}
        environment |= {f"UPLOAD_COORDINATOR__{key}": value for key, value in settings.items()}
        # scripts/test searches the logs in this folder for secrets.
        logs = pathlib.Path(os.environ.get("TEST_LOG_DIR", folder))
        self.log = logs / log
        if "TEST_LOG_DIR" in os.environ:
            environment["UPLOAD_COORDINATOR__TELEMETRY__LOG"] = "debug"
        arguments = ["--data", folder / "data", "--bind", "127.0.0.1:0", "--s3-bind", "127.0.0.1:0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary, "dev", *arguments, "--ready-file", ready],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        deadline = time.monotonic() + 60
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                sys.exit(f"the service does not start:\n{self.log.read_text()}")
            time.sleep(0.05)
        addresses = json.loads(ready.read_text())
        self.addresses = addresses
        self.url, self.s3_url = addresses["url"], addresses["s3_url"]
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path):
        with self.opener.open(self.url + path, timeout=30) as response:
            return response.headers, response.read()

    def uploads(self, **filters):
        query = "&".join(f"{key}={value}" for key, value in filters.items())
        return json.loads(self.get(f"/api/uploads?{query}")[1])["items"]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Window:
    """A page, with its console messages and its requests."""

    def __init__(self, dev, page):
        self.dev, self.page = dev, page
        self.pictures = None
        self.console, self.requests, self.sent_parts = [], [], []
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda m: m.type in ("error", "warning") and self.console.append(m.text))
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfinished", self.finished)

    def finished(self, request):
        query = parse_qs(urlsplit(request.url).query)
        if request.method == "PUT" and "partNumber" in query:
            response = request.response()
            if response and response.ok:
                self.sent_parts.append(int(query["partNumber"][0]))

    def open(self):
        self.page.goto(f"{self.dev.url}/demo")
        return self

    def choose(self, *files):
        self.page.set_input_files("#files", [str(file) for file in files])

    def card(self, file):
        return self.page.locator("li.card").filter(has=self.page.get_by_role("heading", name=file.name))

    def says(self, file, text):
        expect(self.card(file).get_by_role("status")).to_contain_text(text, timeout=PATIENCE)

    def press(self, file, name):
        self.card(file).get_by_role("button", name=name).click()

    def slow_down(self, bytes_per_second):
        session = self.page.context.new_cdp_session(self.page)
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", {
            "offline": False, "latency": 0,
            "downloadThroughput": -1, "uploadThroughput": bytes_per_second,
        })

    def until_percent(self, file, percent):
        handle = self.card(file).locator("progress").element_handle()
        self.page.wait_for_function("([bar, percent]) => bar.value >= percent", arg=[handle, percent])

    def fits(self):
        root = "document.documentElement"
        wide = self.page.evaluate(f"[{root}.scrollWidth, {root}.clientWidth]")
        assert wide[0] <= wide[1], f"the page scrolls sideways: {wide}"

    def check(self, errors_expected=False):
        sent = [urlsplit(url) for url in self.requests if url.startswith("http")]
        hosts = {f"{url.scheme}://{url.netloc}" for url in sent}
        assert hosts <= {self.dev.url, self.dev.s3_url}, f"foreign hosts: {hosts}"
        unexpected = [
            line for line in self.console
            if not (errors_expected and line.startswith("Failed to load resource"))
        ]
        assert not unexpected, f"unexpected messages on the console: {unexpected}"


def small_file(window, files):
    window.choose(files.small)
    window.says(files.small, "Uploaded")
    player = window.card(files.small).locator("audio")
    expect(player).to_be_visible()
    # The player sends a range request for a seek.
    state, duration, position = player.evaluate("""async (audio) => {
        const until = (name) => new Promise((done, failed) => {
            audio.addEventListener(name, done, { once: true });
            audio.addEventListener("error", () => failed(audio.error.message), { once: true });
        });
        if (audio.readyState < 1) await until("loadedmetadata");
        const seeked = until("seeked");
        audio.currentTime = audio.duration / 2;
        await seeked;
        return [audio.readyState, audio.duration, audio.currentTime];
    }""")
    assert state >= 2 and duration > 5 and position > 2, (state, duration, position)
    # After the signed URL has expired, a seek first gets a new one.
    window.page.clock.set_fixed_time(time.time() + 300)
    with window.page.expect_request("**/api/tracks/*/file"):
        player.evaluate("(audio) => { audio.currentTime = 1; }")
    window.page.wait_for_function(
        "(audio) => audio.readyState > 1 && audio.currentTime === 1 && !audio.seeking",
        arg=player.element_handle())
    expect(window.card(files.small).get_by_label("Title")).to_have_value("Blue in Green")
    window.card(files.small).get_by_label("Title").fill("So What")
    with window.page.expect_response(lambda r: r.request.method == "PATCH") as changed:
        window.page.keyboard.press("Tab")
    assert changed.value.json()["title"] == "So What"
    assert changed.value.json()["artist_name"] == "Miles Davis"


def renamed_text(window, files):
    window.choose(files.text)
    window.says(files.text, "Rejected: wrong type")
    expect(window.card(files.text).locator("audio")).to_be_hidden()


def too_large(window, files):
    window.choose(files.too_large)
    window.says(files.too_large, f"Refused: File is larger than max_size={MAX_SIZE}")
    expect(window.card(files.too_large).get_by_role("button")).to_have_count(0)


def pause_and_resume(window, files):
    window.slow_down(8 * MIB)
    window.choose(files.large)
    window.until_percent(files.large, 70)  # 3 parallel parts are 62%, so one is complete
    window.press(files.large, "Pause")
    window.says(files.large, "Paused")
    before = sorted(window.sent_parts)
    assert before, "no part was sent before the pause"
    window.press(files.large, "Resume")
    window.says(files.large, "Uploaded")
    again = [part for part in window.sent_parts if window.sent_parts.count(part) > 1]
    assert not again, f"sent twice: {again}"
    assert sorted(window.sent_parts) == list(range(1, files.parts + 1)), window.sent_parts


def reload_and_resume(window, files):
    window.slow_down(8 * MIB)
    window.choose(files.large)
    window.until_percent(files.large, 70)  # 3 parallel parts are 62%, so one is complete
    window.page.reload()
    before = set(window.sent_parts)
    window.says(files.large, "Interrupted")
    window.choose(files.large)
    window.says(files.large, "Uploaded")
    assert window.page.locator("li.card").count() == 1
    assert before and len(window.sent_parts) == files.parts, window.sent_parts
    window.page.reload()
    expect(window.page.get_by_text("None yet.")).to_be_visible()


def lost_parts(window, files):
    """One part that fails once, and another part that fails until Retry is pressed."""
    session = window.page.context.new_cdp_session(window.page)
    session.send("Network.enable")

    # Playwright's own `route` is not used, because it would respond to preflights instead of the
    # store.
    def lose(*numbers):
        urls = [f"*partNumber={number}*" for number in numbers]
        session.send("Network.setBlockedURLs", {"urls": urls})

    lose(2, 4)
    with window.page.expect_event("requestfailed", lambda request: "partNumber=2" in request.url):
        window.choose(files.large)
    lose(4)
    window.says(files.large, "Trying again")
    window.says(files.large, "Failed: The connection to the store broke")
    assert 2 in window.sent_parts and 4 not in window.sent_parts, window.sent_parts
    lose()
    window.press(files.large, "Retry")
    window.says(files.large, "Uploaded")
    assert sorted(window.sent_parts) == list(range(1, files.parts + 1)), window.sent_parts


def dropped_file(window, files):
    data = base64.b64encode(files.small.read_bytes()).decode()
    transfer = window.page.evaluate_handle("""([name, data]) => {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name, { type: "audio/mpeg" }));
        return transfer;
    }""", [files.small.name, data])
    window.page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    window.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    window.says(files.small, "Uploaded")


def cancelled_file(window, files):
    window.slow_down(4 * MIB)
    window.choose(files.large)
    window.until_percent(files.large, 10)
    window.press(files.large, "Cancel")
    window.says(files.large, "Cancelled")
    newest = window.dev.uploads(limit=1, status="cancelled")
    assert len(newest) == 1 and newest[0]["filename"] == files.large.name, newest


def keyboard_and_names(window, files):
    """The page with a keyboard or a screen reader."""
    window.choose(files.small)
    window.says(files.small, "Uploaded")
    window.page.evaluate("document.activeElement.blur()")
    window.page.keyboard.press("Tab")
    assert window.page.evaluate("document.activeElement.id") == "files"
    nameless = window.page.evaluate("""[...document.querySelectorAll("input, button, audio, progress")]
        .filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))
        .map((e) => e.outerHTML)""")
    assert not nameless, nameless


def narrow_screen(window, files):
    window.page.set_viewport_size({"width": 360, "height": 740})
    window.fits()
    window.choose(files.small, files.text, files.long_name)
    for file, text in ((files.small, "Uploaded"), (files.text, "Rejected"), (files.long_name, "Uploaded")):
        window.says(file, text)
    window.fits()


def document(window, _files):
    """Both pages of API documentation. `Window.check` checks what they load."""
    for path, heading in (("swagger-ui", "upload-coordinator"), ("redoc", "Create a track")):
        window.page.goto(f"{window.dev.url}/api/schema/{path}")
        expect(window.page.get_by_role("heading", name=heading).first).to_be_visible(timeout=PATIENCE)
        if window.pictures:
            window.page.screenshot(path=window.pictures / f"{path}.png")


CHECKS = [
    ("API documentation: Swagger UI and ReDoc load only from the service", document, False),
    ("a small file: uploaded, and the player plays it", small_file, False),
    ("a text named .mp3: rejected, wrong type", renamed_text, False),
    ("a file over the limit: the error message of the API", too_large, True),
    ("a large file in parts: paused, resumed, no part sent twice", pause_and_resume, False),
    ("a large file: the page reloaded, only the missing parts sent", reload_and_resume, False),
    ("failed parts: sent again automatically and with Retry, uploaded", lost_parts, True),
    ("a dropped file: uploaded", dropped_file, False),
    ("a large file: cancelled", cancelled_file, False),
    ("the keyboard reaches the files, everything has a name", keyboard_and_names, False),
    ("360 pixels wide: nothing scrolls sideways", narrow_screen, False),
]


class Files:
    def __init__(self, folder):
        self.small = folder / "Miles Davis - Blue in Green.mp3"
        self.text = folder / "notes.mp3"
        self.large = folder / "Keith Jarrett - Köln, January 24, 1975.mp3"
        self.too_large = folder / "too large.mp3"
        self.long_name = folder / f"{'unbroken' * 20} {'many words ' * 5}.mp3"
        self.small.write_bytes(mp3(160_000))
        self.text.write_text("Only words.\n" * 1000)
        self.large.write_bytes(mp3(24 * MIB))
        self.parts = -(-self.large.stat().st_size // PART)
        self.long_name.write_bytes(mp3(5_000))
        with self.too_large.open("wb") as file:
            file.truncate(MAX_SIZE + 1)


def take_pictures(dev, browser, files, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for name, width, height in (("wide", 1280, 900), ("narrow", 360, 740)):
            size = {"width": width, "height": height}
            with contextlib.closing(browser.new_context(color_scheme=scheme, viewport=size)) as context:
                window = Window(dev, context.new_page()).open()
                window.page.screenshot(path=folder / f"{name}-{scheme}-empty.png")
                window.choose(files.small, files.text, files.too_large, files.long_name)
                window.says(files.long_name, "Uploaded")
                window.slow_down(6 * MIB)
                window.choose(files.large)
                window.until_percent(files.large, 20)
                window.press(files.large, "Pause")
                window.page.screenshot(path=folder / f"{name}-{scheme}-paused.png", full_page=True)
                window.press(files.large, "Resume")
                window.until_percent(files.large, 60)
                window.page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)


def main(binary, chromium, screenshots=None):
    with tempfile.TemporaryDirectory(prefix="uc-demo-") as folder, sync_playwright() as tools:
        folder = pathlib.Path(folder)
        files = Files(folder)
        dev = Dev(binary, folder)
        if screenshots:
            pathlib.Path(screenshots).mkdir(parents=True, exist_ok=True)
        arguments = ["--no-proxy-server", "--disable-gpu"]
        browser = tools.chromium.launch(executable_path=chromium, args=arguments)
        try:
            headers, _ = dev.get("/demo/")
            assert dev.s3_url in headers["content-security-policy"], headers
            for name, check, errors_expected in CHECKS:
                with contextlib.closing(browser.new_context()) as context:
                    window = Window(dev, context.new_page()).open()
                    window.pictures = screenshots and pathlib.Path(screenshots)
                    began = time.monotonic()
                    try:
                        check(window, files)
                        window.check(errors_expected)
                    except BaseException:
                        print(f"FAILED  {name}\n{window.page.inner_text('body')}\n{window.console}\n"
                              f"{dev.log.read_text()[-3000:]}", file=sys.stderr)
                        raise
                    print(f"ok  {name} ({time.monotonic() - began:.1f} s)", flush=True)
            if screenshots:
                take_pictures(dev, browser, files, pathlib.Path(screenshots))
        finally:
            browser.close()
            dev.stop()


if __name__ == "__main__":
    # Ends with the `finally` above, so that no process is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(*sys.argv[1:])
