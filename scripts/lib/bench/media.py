"""What the inspector `media` adds to a confirmation: the CPU time of a service with it, divided by that of a
service without it. Both are measured in turns. The embedded S3 server runs in a separate process."""
import http.client
import json
import statistics
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

from . import host

# The number of files that each of the two services confirms in a round.
FILES = 100
AT_ONCE = 4
TARGET = 1.5


def song() -> bytes:
    """10 s of MPEG 1 Layer III with a title and a cover of 60 KiB. The first read does not reach its end."""
    def frame(name, content):
        return name + len(content).to_bytes(4) + b"\0\0" + content

    frames = frame(b"TIT2", b"\0Deep") + frame(b"APIC", b"\0image/jpeg\0\x03\0" + b"\x55" * 60 * 1024)
    size = bytes(len(frames) >> shift & 0x7f for shift in (21, 14, 7, 0))
    sound = (b"\xff\xfb\x90\x64" + b"\x55" * 413) * 383
    return b"ID3\x03\0\0" + size + frames + sound


def requests(address, made):
    """Sends requests (method, path, headers, body) over few connections."""
    def send(some):
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc)
        for method, path, headers, body in some:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                host.fail(f"{method} {path.partition('?')[0]} returns {response.status} {text[:300]}")
            if path.endswith("/confirm") and json.loads(text)["status"] != "uploaded":
                host.fail(f"the upload is not verified: {text[:300]}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(send, [made[n::AT_ONCE] for n in range(AT_ONCE)]))


def round_of(process, address, file) -> float:
    """Uploads and confirms files. Returns the CPU time of the service per confirmation, in ms."""
    body = json.dumps({"uploads": [{"filename": "song.mp3"}] * FILES}).encode()
    status, text = host.get(address + "/api/uploads/batch", data=body,
                            headers={"Content-Type": "application/json"})
    if status not in (200, 201, 207):
        host.fail(f"POST /api/uploads/batch returns {status} {text[:300]}")
    uploads = [result["upload"] for result in json.loads(text)["results"]]
    puts = []
    for upload in uploads:
        url = urllib.parse.urlsplit(upload["request"]["url"])
        puts.append(("PUT", f"{url.path}?{url.query}", upload["request"]["headers"], file))
    requests(uploads[0]["request"]["url"], puts)
    before = process.cpu_seconds()
    json_headers = {"Content-Type": "application/json"}
    requests(address, [("POST", f"/api/uploads/{it['id']}/confirm", json_headers, b"{}") for it in uploads])
    return (process.cpu_seconds() - before) * 1000 / FILES


def run(machine, _database):
    store, file = machine.s3(), song()
    with_it = machine.serve(machine.settings_of_new("sqlite", store, POLICIES__TRACKS__INSPECT="media"))
    without = machine.serve(machine.settings_of_new("sqlite", store))
    measured = {True: [], False: []}
    for n in range(machine.seconds + 1):
        for inspects, (process, address, _) in ((True, with_it), (False, without)):
            spent = round_of(process, address, file)
            # The first round warms up.
            if n > 0:
                measured[inspects].append(spent)
    ratios = [new / old for new, old in zip(measured[True], measured[False])]
    ratio, new, old = (statistics.median(it) for it in (ratios, measured[True], measured[False]))
    machine.record("CPU of a confirmation with `media`, times that without it", f"{ratio:.2f}×",
                   f"≤ {TARGET}×", ratio <= TARGET,
                   f"{new:.2f} ms and {old:.2f} ms; {min(ratios):.2f}× to {max(ratios):.2f}× in {len(ratios)} rounds",
                   ratios=ratios)
    for process, _, _ in (with_it, without):
        process.stop()
