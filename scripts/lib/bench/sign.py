"""The time to presign a PUT, measured by criterion: this project, aws-sdk-s3 and rusty-s3 in the same run."""
import json
import re
import subprocess

from . import host


def run(machine, _database):
    command = [machine.programs["pieces"], "--bench", "--noplot", "--measurement-time",
               str(max(machine.seconds / 2, 2)), "sign a PUT"]
    done = subprocess.run(command, cwd=machine.work, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    # "sign a PUT/rusty-s3     time:   [5.1 µs 5.2 µs 5.3 µs]"; long names are on a separate line.
    seen = re.findall(r"^sign a PUT/(\S+)\s+time:\s+\[\S+ \S+ ([\d.]+) (ns|µs|us|ms)",
                      done.stdout, re.MULTILINE)
    unit = {"ns": 1e-3, "µs": 1.0, "us": 1.0, "ms": 1e3}
    took = {name: float(number) * unit[scale] for name, number, scale in seen}
    if len(took) != 3:
        host.fail(f"the output of criterion is not as expected:\n{done.stdout}{done.stderr}")
    ours, sdk, rusty = took["upload-coordinator"], took["aws-sdk-s3"], took["rusty-s3"]
    machine.record("signing a PUT", f"{ours:.2f} µs", "≤ 5 µs", ours <= 5, took=took)
    machine.record("signing, times faster than aws-sdk-s3", f"{sdk / ours:.0f}×", "≥ 8×",
                   sdk / ours >= 8, f"aws-sdk-s3: {sdk:.1f} µs")
    machine.record("signing, times faster than rusty-s3", f"{rusty / ours:.1f}×", "≥ 1×",
                   rusty >= ours, f"rusty-s3: {rusty:.1f} µs")
