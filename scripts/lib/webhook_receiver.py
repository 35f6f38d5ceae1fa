"""A receiver of webhooks, as in a back end. It accepts only signed messages.

Usage: webhook_receiver.py SECRET FOLDER. Writes its port to FOLDER/port, a line
`TYPE UPLOAD-ID` to FOLDER/events for each accepted event, and a line to FOLDER/refused for each
refused message.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
TOLERANCE = 5 * 60  # seconds: an older message may be a replay


def verify(secret, headers, body):
    """https://www.standardwebhooks.com: raises ValueError unless the signature is valid and recent."""
    if abs(time.time() - int(headers["webhook-timestamp"])) > TOLERANCE:
        raise ValueError("webhook-timestamp is more than 5 minutes in the past or in the future")
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    key = base64.b64decode(secret.removeprefix("whsec_"))
    ours = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    theirs = headers["webhook-signature"].split()  # several while a secret is replaced
    if not any(hmac.compare_digest(ours, signature) for signature in theirs):
        raise ValueError("the signature is wrong")


class Receiver(BaseHTTPRequestHandler):
    seen = set()  # a message may arrive more than once

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            verify(SECRET, self.headers, body)
        except (ValueError, TypeError, AttributeError) as error:
            record("refused", str(error))
            self.response(401)
            return
        if self.headers["webhook-id"] not in self.seen:
            event = json.loads(body)
            record("events", f"{event['type']} {event['data']['id']}")
            self.seen.add(self.headers["webhook-id"])
        self.response(204)

    def response(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


def record(file, line):
    with (FOLDER / file).open("a") as log:
        log.write(line + "\n")


server = HTTPServer(("127.0.0.1", 0), Receiver)
(FOLDER / "port.new").write_text(str(server.server_port))
(FOLDER / "port.new").rename(FOLDER / "port")
server.serve_forever()
