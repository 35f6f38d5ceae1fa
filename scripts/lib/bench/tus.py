"""tus into MinIO: the memory of many uploads at once, and the time of one, compared with presigned parts
of the same client."""
import http.client
import json
import time
from urllib.parse import urlsplit

from . import direct, host

MIB = 2**20
AT_ONCE = 100
CHUNK = 16 * MIB
# The size in MiB of the largest part that the service buffers for an upload. Parts are 5 to 10 MiB.
PART = 10
HEADERS = {"Tus-Resumable": "1.0.0"}


class Client:
    """Sends chunks of a file, one after the other, on connections that stay open."""

    def __init__(self):
        self.connections = {}

    def send(self, method, url, body=None, headers=()):
        parts = urlsplit(url)
        if parts.netloc not in self.connections:
            self.connections[parts.netloc] = http.client.HTTPConnection(parts.netloc, timeout=300)
        connection = self.connections[parts.netloc]
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        text = response.read()
        if response.status >= 300:
            host.fail(f"{method} {parts.path} returns {response.status} {text[:300]}")
        return response, text

    def json(self, method, url, body):
        headers = {"Content-Type": "application/json"}
        return json.loads(self.send(method, url, json.dumps(body), headers)[1])


def chunks(path):
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def create(client, address, size) -> str:
    # YS5tcDM= is the base64 of a.mp3.
    headers = {**HEADERS, "Upload-Length": str(size), "Upload-Metadata": "filename YS5tcDM="}
    response, _ = client.send("POST", f"{address}/tus/", headers=headers)
    return address + response.getheader("Location")


def by_tus(address, path):
    client, offset = Client(), 0
    url = create(client, address, path.stat().st_size)
    for chunk in chunks(path):
        headers = {**HEADERS, "Upload-Offset": str(offset),
                   "Content-Type": "application/offset+octet-stream"}
        client.send("PATCH", url, chunk, headers)
        offset += len(chunk)


def by_parts(address, path):
    client = Client()
    new = {"filename": "a.mp3", "size": path.stat().st_size, "strategy": "multipart"}
    uploads = f"{address}/api/uploads"
    upload = f"{uploads}/{client.json('POST', uploads, new)['id']}"
    for number, chunk in enumerate(chunks(path), 1):
        signed = client.json("POST", f"{upload}/parts", {"part_numbers": [number]})
        client.send("PUT", signed["parts"][0]["url"], chunk)
    done = client.json("POST", f"{upload}/complete", {})
    if done["status"] != "uploaded":
        host.fail(f"the status of the upload is {done['status']}, not uploaded")


def run(machine, _database):
    more = {
        "DIALECTS__TUS__ENABLED": "true",
        "POLICIES__TRACKS__MAX_SIZE": "2GiB",
        "POLICIES__TRACKS__PART_SIZE": "16MiB",
    }
    store = machine.server("minio")
    process, address, _ = machine.serve(machine.settings_of_new("sqlite", store, **more))
    by_tus(address, direct.file_of(machine, 32 * MIB))
    time.sleep(1)
    idle = process.memory()
    process.forget_peak()
    path = direct.file_of(machine, 64 * MIB)
    urls = [create(Client(), address, 64 * MIB) for _ in range(AT_ONCE)]
    began = time.monotonic()
    direct.finish([
        direct.curl(machine, "-X", "PATCH", "-T", path, "-H", "Tus-Resumable: 1.0.0",
                    "-H", "Upload-Offset: 0", "-H", "Expect:",
                    "-H", "Content-Type: application/offset+octet-stream", url)
        for url in urls
    ])
    took = time.monotonic() - began
    above, limit = process.memory("VmHWM") - idle, 100 + AT_ONCE * PART
    machine.record(f"{AT_ONCE} tus uploads of 64 MiB at once, memory above idle",
                   f"{above:.0f} MiB", f"≤ {limit} MiB", above <= limit,
                   f"{AT_ONCE * 64 / took:.0f} MiB/s in total")
    path = direct.file_of(machine, 1024 * MIB)
    times = {by_parts: [], by_tus: []}
    for _ in range(3):
        for way in times:
            began = time.monotonic()
            way(address, path)
            times[way].append(time.monotonic() - began)
    parts, tus = min(times[by_parts]), min(times[by_tus])
    machine.record("1 GiB by tus in chunks of 16 MiB, times the presigned parts' time",
                   f"{tus / parts:.2f}×", "≤ 1.5×", tus <= 1.5 * parts,
                   f"presigned parts: {parts:.1f} s; tus: {tus:.1f} s", times=list(times.values()))
    process.stop()
