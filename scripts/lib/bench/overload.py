"""Sends twice as many creations per second as the service can do, without waiting for responses."""
import base64
import json
import subprocess
import threading
import time

from . import host, load, requests

SECONDS = 30
CONNECTIONS = 640


def latency(address) -> float:
    """The median duration of nine creations one after the other, in seconds; infinite if one fails."""
    took = []
    for _ in range(9):
        began = time.monotonic()
        status = host.get(f"{address}/api/uploads", data=requests.BODY.encode(),
                          headers=requests.JSON)[0]
        if status != 201:
            return float("inf")
        took.append(time.monotonic() - began)
    return sorted(took)[4]


def run(machine, database):
    process, address = requests.service(machine, database)
    url = f"{address}/api/uploads"
    capacity = load.wrk(machine, url, process, load.post(requests.BODY))["rps"]
    calm, before = latency(address), process.memory()
    target = json.dumps({"method": "POST", "url": url,
                         "body": base64.b64encode(requests.BODY.encode()).decode(),
                         "header": {"Content-Type": ["application/json"]}})
    targets = machine.work / "targets.json"
    targets.write_text(target + "\n")
    attack = [load.vegeta_program(), "attack", "-format=json", f"-targets={targets}",
              f"-rate={int(2 * capacity)}/s", f"-duration={SECONDS}s", "-timeout=30s",
              f"-connections={CONNECTIONS}", f"-workers={CONNECTIONS}",
              f"-max-workers={CONNECTIONS}", f"-output={machine.work}/attack.bin"]
    memory = []
    ended = threading.Event()

    def watch():
        while not ended.wait(1):
            memory.append(process.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    subprocess.run(attack, check=True)
    ended_at = time.monotonic()
    ended.set()
    watcher.join()
    while latency(address) > max(3 * calm, 0.02):
        if time.monotonic() - ended_at > 30 or process.child.poll() is not None:
            break
    recovery = time.monotonic() - ended_at
    report = subprocess.run([load.vegeta_program(), "report", "-type=json",
                             f"{machine.work}/attack.bin"], check=True, capture_output=True)
    report = json.loads(report.stdout)
    codes = report["status_codes"]
    unanswered = codes.get("0", 0)
    shed = codes.get("503", 0) + codes.get("429", 0)
    other = sum(codes.values()) - unanswered - shed - codes.get("201", 0)
    # Memory that still grows in the last third of the time probably grows without a limit.
    third = len(memory) // 3
    grows = max(memory[-third:]) - max(memory[third:-third])
    passed = (process.child.poll() is None and unanswered == 0 and other == 0
              and recovery <= 5 and grows < 0.2 * max(memory))
    machine.record(
        f"overload for {SECONDS} s ({database})",
        f"{codes.get('201', 0):,} created, {shed:,} shed, {other + unanswered} failed; "
        f"recovered after {recovery:.1f} s", "0 failed, ≤ 5 s", passed,
        f"requested rate {2 * capacity:,.0f}/s, capacity {capacity:,.0f}/s; memory {before:.0f} → "
        f"{max(memory):.0f} MiB, {grows:+.0f} MiB in the last third", codes=codes, memory=memory)
    process.stop()
