"""The service without requests: the time to start, the idle memory, and the size of the binary."""
import os
import time

from . import host


def run(machine, _database):
    env = machine.settings_of_new("sqlite", machine.s3())
    machine.serve(env)[0].stop()  # the first start runs the migrations
    took = []
    for _ in range(5):
        process, address, seconds = machine.serve(env)
        took.append(seconds * 1000)
        if len(took) < 5:
            process.stop()
    time.sleep(3)
    idle = process.memory()
    process.stop()
    machine.record("start to ready", f"{sorted(took)[2]:.0f} ms", "≤ 300 ms",
                   sorted(took)[2] <= 300, f"5 starts: {min(took):.0f} to {max(took):.0f} ms")
    machine.record("idle memory, SQLite", f"{idle:.0f} MiB", "≤ 40 MiB", idle <= 40)
    size = os.path.getsize(machine.programs["upload-coordinator"]) / 2**20
    machine.record("release binary", f"{size:.0f} MiB")
