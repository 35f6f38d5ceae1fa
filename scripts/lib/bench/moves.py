"""A move between two servers, compared with `rclone copy --checksum` of the same objects with the same
concurrency."""
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from . import host
from .tus import Client

MIB = 2**20
# Many small files, and some that are sent in parts.
SIZES = [64 * 1024] * 1500 + [MIB] * 300 + [20 * MIB] * 30
CONCURRENCY = 8
ROUNDS = 3
HEAD = b"\xff\xfb\x90\x64"


def rclone() -> str:
    command = f"source {host.ROOT}/scripts/lib/common.sh; source {host.ROOT}/scripts/lib/rclone.sh; " \
              "rclone_install >&2 && echo $rclone_bin"
    built = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True)
    return built.stdout.strip() or host.fail("rclone is not available")


def remote(name: str, store: dict) -> dict:
    """The environment that defines a remote of rclone."""
    values = {
        "TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": store["TEST_S3_ENDPOINT"],
        "REGION": store["TEST_S3_REGION"], "ACCESS_KEY_ID": store["TEST_S3_ACCESS_KEY_ID"],
        "SECRET_ACCESS_KEY": store["TEST_S3_SECRET_ACCESS_KEY"], "FORCE_PATH_STYLE": "true",
        "NO_CHECK_BUCKET": "true",
    }
    return {f"RCLONE_CONFIG_{name}_{key}": value for key, value in values.items()}


def fill(address: str):
    """Uploads and confirms the files of this benchmark."""
    def some(sizes):
        client = Client()
        for size in sizes:
            new = {"filename": "a.mp3", "content_type": "audio/mpeg", "size": size}
            upload = client.json("POST", f"{address}/api/uploads", new)
            body = HEAD + upload["id"].encode() * (size // 36 + 1)
            request = upload["request"]
            headers = request["headers"]
            client.send("PUT", request["url"], body[:size], headers)
            done = client.json("POST", f"{address}/api/uploads/{upload['id']}/confirm", {})
            if done["status"] != "uploaded":
                host.fail(f"the status of the upload is {done['status']}, not uploaded")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(some, [SIZES[n::8] for n in range(8)]))


def run(machine, _database):
    tool = rclone()
    source, target = machine.server("minio"), machine.s3()
    other = {f"STORAGE__OTHER__{key}": value for key, value in {
        "KIND": "s3", "ENDPOINT": target["TEST_S3_ENDPOINT"], "BUCKET": target["TEST_S3_BUCKET"],
        "REGION": target["TEST_S3_REGION"], "PATH_STYLE": "true",
        "ACCESS_KEY_ID": target["TEST_S3_ACCESS_KEY_ID"],
        "SECRET_ACCESS_KEY": target["TEST_S3_SECRET_ACCESS_KEY"]}.items()}
    limits = {"POLICIES__TRACKS__MAX_SIZE": "1GiB", "POLICIES__TRACKS__MULTIPART_THRESHOLD": "1GiB"}
    times, total = {"rclone": [], "move": []}, sum(SIZES)
    peak = 0.0
    for number in range(ROUNDS):
        # A new database and prefix for each round, so that the target contains no copies yet.
        env = machine.settings_of_new("sqlite", source, **other, **limits)
        prefix = env[host.PREFIX + "POLICIES__TRACKS__PREFIX"]
        process, address, _ = machine.serve(env)
        fill(address)
        process.stop()
        process, address, _ = machine.serve(env | {host.PREFIX + "POLICIES__TRACKS__STORE": "other"})

        def by_rclone():
            command = [tool, "copy", "--checksum", f"--transfers={CONCURRENCY}",
                       f"--checkers={CONCURRENCY}", f"--exclude=.instance",
                       f"A:{source['TEST_S3_BUCKET']}/{prefix}",
                       f"B:{target['TEST_S3_BUCKET']}/rclone-{prefix}"]
            env = remote("A", source) | remote("B", target) | {
                "PATH": "/usr/bin:/bin", "HOME": str(machine.work), "RCLONE_CONFIG": "/dev/null"}
            subprocess.run(command, env=env, check=True, stderr=subprocess.DEVNULL)

        def by_move():
            client = Client()
            process.forget_peak()
            body = {"policy": "tracks", "from": "default", "concurrency": CONCURRENCY}
            started = client.json("POST", f"{address}/api/admin/moves", body)
            url = f"{address}/api/admin/moves/{started['id']}"
            while True:
                run = json.loads(client.send("GET", url)[1])
                if run["status"] != "running":
                    break
                time.sleep(0.05)
            if run["status"] != "succeeded" or run["counters"]["moved"] != len(SIZES):
                host.fail(f"the move did not move all {len(SIZES)} objects: {run}")

        ways = {"rclone": by_rclone, "move": by_move}
        for name in sorted(ways, reverse=number % 2 == 0):
            began = time.monotonic()
            ways[name]()
            times[name].append(time.monotonic() - began)
        peak = max(peak, process.memory("VmHWM"))
        process.stop()
    theirs, ours = (sorted(times[name])[ROUNDS // 2] for name in ("rclone", "move"))
    share = theirs / ours
    machine.record(
        f"move of {len(SIZES):,} objects, {total / MIB:.0f} MiB, MinIO to the embedded store: "
        "speed beside rclone copy --checksum",
        f"{share:.0%}", "≥ 80%", share >= 0.8,
        f"medians of {ROUNDS}, {CONCURRENCY} transfers: rclone {theirs:.1f} s, move {ours:.1f} s "
        f"({total / MIB / ours:.0f} MiB/s, {len(SIZES) / ours:.0f} objects/s); peak memory of the "
        f"service {peak:.0f} MiB", times=times)
