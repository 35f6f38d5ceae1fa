"""Direct uploads into MinIO: the memory of many at once, and the time of one, compared with a
presigned PUT of the same client (curl)."""
import json
import subprocess
import time

from . import host

MIB = 2**20
AT_ONCE = 16
HEAD = b"ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x64"


def file_of(machine, size: int):
    """A file that looks like an MP3 and uses no space on the disk."""
    path = machine.work / f"{size // MIB}.mp3"
    with path.open("wb") as file:
        file.write(HEAD)
        file.truncate(size)
    return path


def call(address, path, body):
    status, response = host.get(address + path, data=json.dumps(body).encode(),
                              headers={"Content-Type": "application/json"})
    if status != 201:
        host.fail(f"POST {path} returns {status} {response[:300]}")
    return json.loads(response)


def new_track(address) -> str:
    return call(address, "/api/tracks", {"title": "bench", "artist_name": "bench"})["id"]


def curl(machine, *arguments):
    command = ["curl", "-sS", "--fail-with-body", "-o", "/dev/null", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def finish(children):
    if any([child.wait() for child in children]):
        host.fail("an upload failed")


def run(machine, _database):
    more = {
        "POLICIES__TRACKS__MAX_SIZE": "2GiB",
        "POLICIES__TRACKS__MULTIPART_THRESHOLD": "4GiB",
    }
    store = machine.server("minio")
    env = machine.settings_of_new("sqlite", store, **more)
    process, address, _ = machine.serve(env)

    def direct(path):
        return curl(machine, "-T", path, "-H", "Content-Type: audio/mpeg",
                    f"{address}/api/tracks/{new_track(address)}/upload/{path.name}")

    # One upload warms up pools, TLS and the allocator, so that their memory counts as idle.
    finish([direct(file_of(machine, 16 * MIB))])
    time.sleep(1)
    idle = process.memory()
    process.forget_peak()
    path = file_of(machine, 256 * MIB)
    began = time.monotonic()
    finish([direct(path) for _ in range(AT_ONCE)])
    took = time.monotonic() - began
    above = process.memory("VmHWM") - idle
    machine.record(f"{AT_ONCE} direct uploads of 256 MiB at once, memory above idle",
                   f"{above:.0f} MiB", "≤ 128 MiB", above <= 128,
                   f"{AT_ONCE * 256 / took:.0f} MiB/s in total")

    path = file_of(machine, 1024 * MIB)

    def straight(path):
        created = call(address, f"/api/tracks/{new_track(address)}/presigned-url", {})
        return curl(machine, "-T", path, created["url"])

    def cpu():
        return process.cpu_seconds(), machine.running["minio"].tree_cpu_seconds()

    times, spent = {straight: [], direct: []}, {}
    for _ in range(3):
        for way in times:
            before, began = cpu(), time.monotonic()
            finish([way(path)])
            times[way].append(time.monotonic() - began)
            spent[way] = [after - before for before, after in zip(before, cpu())]
    alone, through = min(times[straight]), min(times[direct])
    here, in_minio = spent[direct]
    machine.record("1 GiB through the service, times the presigned PUT's time",
                   f"{through / alone:.2f}×", "≤ 1.3×", through <= 1.3 * alone,
                   f"presigned PUT: {alone:.1f} s, {spent[straight][1]:.1f} s of CPU in MinIO; "
                   f"through the service: {through:.1f} s, {here:.1f} s of CPU in the service and "
                   f"{in_minio:.1f} s in MinIO", times=list(times.values()))
    process.stop()
