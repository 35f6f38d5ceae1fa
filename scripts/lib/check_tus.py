"""Checks tus with connections that are cut at random, and with a client in Python.

Usage: check_tus.py BINARY CHROMIUM PAGES CUTS

PAGES is the same folder as for check_dialects.py. The connections of tus-js-client in Chromium go through a
proxy that cuts CUTS of them, each after a random number of bytes. tuspy sends another file in chunks.
"""

import pathlib
import random
import signal
import socket
import struct
import sys
import tempfile
import threading
import time

from check_demo import Dev
from check_dialects import Run, serve
from playwright.sync_api import sync_playwright
from tusclient.client import TusClient

MIB = 1 << 20


class CutProxy:
    """Forwards connections to a port. Cuts a number of them, each after a random number of the client's bytes."""

    def __init__(self, port, cuts, most):
        self.port, self.left, self.most = port, cuts, most
        self.random = random.Random(7)
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.forward, args=(client,), daemon=True).start()

    def forward(self, client):
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            back = threading.Thread(target=self.pump, args=(server, client), daemon=True)
            back.start()
            with self.lock:
                cut = self.random.randrange(1, self.most) if self.left > 0 else None
            if self.pump(client, server, cut):
                with self.lock:
                    self.left -= 1
                # The client sees a reset, as if the network had failed.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                for end in (client, server):
                    end.shutdown(socket.SHUT_RDWR)
            back.join(60)

    @staticmethod
    def pump(source, target, cut=None):
        """Forwards all bytes, or only the first `cut` bytes. Returns whether there were more than `cut`."""
        passed = 0
        try:
            while data := source.recv(65536):
                if cut is not None and passed + len(data) > cut:
                    target.sendall(data[: cut - passed])
                    return True
                target.sendall(data)
                passed += len(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return False


def cut(dev, browser, origin, cuts):
    run = Run(dev, browser, origin, "tus")
    # A connection is cut after fewer bytes than this. All connections that are cut carry less than
    # the whole file of 12 MiB, so that the upload does not end before the last cut.
    most = 12 * MIB // cuts
    proxy = CutProxy(int(dev.url.rsplit(":", 1)[1]), cuts, most)
    run.base = run.base.replace(dev.url, proxy.url)
    run.page.set_default_timeout(600_000)
    run.expect_file(run.run("large"), "large")
    run.expect(proxy.left <= 0, f"{proxy.left} of {cuts} connections were not cut")
    print(f"ok  tus: {cuts - proxy.left} of {cuts} connections cut, and the stored file is the same", flush=True)
    run.page.close()


def tuspy(dev, browser, origin):
    run = Run(dev, browser, origin, "tus")
    song = b"\xff\xfb\x90\x64" + bytes(413)
    file = song * (7 * MIB // len(song))
    with tempfile.NamedTemporaryFile(suffix=".mp3") as on_disk:
        on_disk.write(file)
        on_disk.flush()
        client = TusClient(f"{run.base}/tus/")
        metadata = {"filename": "a.mp3", "filetype": "audio/mpeg"}
        uploader = client.uploader(on_disk.name, chunk_size=1_000_000, metadata=metadata)
        uploader.upload(stop_at=3_000_000)
        # A new uploader continues, like one in another process.
        again = client.uploader(on_disk.name, chunk_size=2_500_000, url=uploader.url)
        run.expect(again.get_offset() == 3_000_000, f"the offset is {again.get_offset()}")
        again.upload()
    [upload] = run.uploads()
    run.expect(upload["status"] == "uploaded", f"the status is {upload['status']}")
    _, stored = dev.get(f"{run.prefix}/api/uploads/{upload['id']}/file")
    run.expect(stored == file, "the stored file differs from the sent file")
    print("ok  tuspy: the stored file is the same", flush=True)
    run.page.close()


def main(binary, chromium, pages, cuts):
    with tempfile.TemporaryDirectory(prefix="uc-tus-") as folder, sync_playwright() as tools:
        dev = Dev(binary, pathlib.Path(folder), "check-tus.log")
        arguments = ["--no-proxy-server", "--disable-gpu"]
        browser = tools.chromium.launch(executable_path=chromium, args=arguments)
        try:
            origin = serve(pages)
            began = time.monotonic()
            cut(dev, browser, origin, int(cuts))
            tuspy(dev, browser, origin)
            print(f"tus: all checks in {time.monotonic() - began:.0f} s", flush=True)
        finally:
            browser.close()
            dev.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(*sys.argv[1:])
