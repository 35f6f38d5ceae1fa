"""Starts `serve` with the store in TEST_S3_* (scripts/with-server), and serves pages that upload to it."""

import functools
import http.server
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.request

from check_demo import Dev


def store_settings():
    """The configuration keys of the store and their values, without `STORAGE__DEFAULT__`."""
    store = {key: os.environ[f"TEST_S3_{key}"] for key in
             ("ENDPOINT", "PUBLIC_ENDPOINT", "REGION", "BUCKET", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")}
    if os.environ["TEST_S3_KIND"] != "azurite":
        return store | {"KIND": "s3", "PATH_STYLE": "true"}
    account, key = store.pop("ACCESS_KEY_ID"), store.pop("SECRET_ACCESS_KEY")
    del store["REGION"]
    return store | {"KIND": "azure", "ACCOUNT": account, "ACCESS_KEY": key}


class Served:
    """`serve` for pages of `origins`. The CORS rule of the store allows only `allowed`, by default all `origins`."""

    def __init__(self, binary, folder, log, settings, origins, allowed=None, clients=()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        settings = settings | {f"STORAGE__DEFAULT__{key}": value for key, value in store_settings().items()} | {
            "DATABASE__URL": f"sqlite://{folder}/service.db", "SERVER__BIND": address,
            "SERVER__CORS_ORIGINS": ",".join(origins), "POLICIES__TRACKS__PREFIX": f"{folder.name}/",
        }
        environment = {k: v for k, v in os.environ.items() if not k.startswith("UPLOAD_COORDINATOR__")}
        environment |= {f"UPLOAD_COORDINATOR__{key}": value for key, value in settings.items()}
        self.log = pathlib.Path(os.environ.get("TEST_LOG_DIR", folder)) / log
        self.url, self.s3_url = f"http://{address}", os.environ["TEST_S3_PUBLIC_ENDPOINT"]
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        doctor = ["doctor", "--fix", "cors"]
        for origin in allowed or origins:
            doctor += ["--origin", origin]
        for client in clients:
            doctor += ["--client", client]
        with self.log.open("wb") as log:
            def command(*arguments):
                return dict(args=[binary, *arguments], env=environment, stdin=subprocess.DEVNULL,
                            stdout=log, stderr=log)
            # The exit code of `doctor` is not checked: some stores have no API for CORS rules. They
            # allow all origins or none, which the cases show.
            subprocess.run(**command("migrate", "up"), check=True)
            subprocess.run(**command(*doctor))
            self.process = subprocess.Popen(**command("serve"))
        deadline = time.monotonic() + 60
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                sys.exit(f"the service does not start:\n{self.log.read_text()}")
            time.sleep(0.1)

    def is_ready(self):
        try:
            return self.get("/readyz") is not None
        except OSError:
            return False

    get, stop = Dev.get, Dev.stop


def serve(pages):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=pages)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
