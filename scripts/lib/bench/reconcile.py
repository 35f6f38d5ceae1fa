"""The costs of reconciliation: with a computed listing, and with MinIO."""
import json
import os
import subprocess

from . import host

FEW, MANY = 100_000, 1_000_000
MIB = 2**20


def bench(machine, *arguments, env=None):
    """Runs benches/reconcile.rs. Returns its output, if it has any."""
    command = [machine.programs["reconcile"], *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True,
                          env=dict(os.environ) | (env or {}))
    result = json.loads(done.stdout) if done.stdout.strip() else {}
    if result.get("status", "succeeded") != "succeeded":
        host.fail(f"the status of a run is {result['status']}: {result['error']}")
    return result


def check(run, objects):
    """Fails unless an audit listed each object and changed nothing. Every object has a row, so there is
    nothing to change. The bucket may contain more objects, from earlier figures."""
    counters = run["counters"]
    # A pending upload may expire during the run, which needs a HEAD request.
    usual = ("listed", "list_requests", "head_requests", "expired")
    found = {name: n for name, n in counters.items() if n and name not in usual}
    if counters["listed"] < objects or found:
        host.fail(f"an audit of {objects} objects ended with {counters}")


def run(machine, database):
    runs = {}
    for objects in (FEW, MANY):
        url = machine.database(database)
        bench(machine, "fill", url, objects)
        for mode in ("incremental", "audit"):
            runs[mode, objects] = bench(machine, "run", url, objects, mode)
            if mode == "audit":
                check(runs[mode, objects], objects)
    counts = [runs["incremental", n]["counters"] for n in (FEW, MANY)]
    requests = [(c["list_requests"], c["head_requests"]) for c in counts]
    few, many = runs["audit", FEW], runs["audit", MANY]
    quick = runs["incremental", MANY]
    name = f"({database}, {MANY:,} objects)"
    machine.record(f"incremental run {name}, LIST + HEAD requests",
                   f"{requests[1][0]} + {requests[1][1]}", "≤ 2 LISTs a shard",
                   requests[1][0] <= 32, f"a full listing takes {MANY // 1000:,}")
    machine.record(f"the same with {FEW:,} objects", f"{requests[0][0]} + {requests[0][1]}",
                   "unchanged", requests[0] == requests[1])
    ratio = many["seconds"] / quick["seconds"]
    machine.record(f"incremental run {name}, part of the audit's time", f"1/{ratio:.0f}", "≤ 1/50",
                   ratio >= 50, f"{quick['seconds'] * 1000:.0f} ms of {many['seconds']:.1f} s; a "
                   f"process's first run {quick['first_seconds'] * 1000:.0f} ms",
                   runs=[quick, many])
    rate = MANY / many["seconds"]
    machine.record(f"audit {name}, objects/s", f"{rate:,.0f}", "≥ 150,000", rate >= 150_000,
                   f"{many['seconds']:.1f} s")
    above = [(run["peak_bytes"] - run["idle_bytes"]) / MIB for run in (few, many)]
    machine.record(f"audit {name}, memory above idle", f"{above[1]:.0f} MiB", "≤ 100 MiB",
                   above[1] <= 100)
    growth = many["peak_bytes"] / few["peak_bytes"]
    machine.record(f"audit {name}, peak memory, times that of {FEW:,}", f"{growth:.2f}×", "≤ 1.2×",
                   growth <= 1.2, f"{few['peak_bytes'] / MIB:.0f} MiB at {FEW:,}")


def run_minio(machine, _database):
    store = {k: v for k, v in machine.server("minio").items() if k.startswith("TEST_S3_")}
    url = machine.database("sqlite")
    bench(machine, "s3-fill", FEW, env=store)
    bench(machine, "s3-rows", url, env=store)
    times = {"s3-list": [], "s3-audit": []}
    # The two alternate, after one round that warms up MinIO for both.
    for turn in range(4):
        for what, arguments in (("s3-list", [FEW]), ("s3-audit", [url, FEW])):
            result = bench(machine, what, *arguments, env=store)
            if what == "s3-audit":
                check(result, FEW)
            if turn:
                times[what].append(result["seconds"])
    listed, audited = (sorted(seconds)[1] for seconds in times.values())
    machine.record(f"audit of {FEW:,} objects in MinIO, times the listing alone",
                   f"{audited / listed:.2f}×", "≤ 1.15×", audited <= 1.15 * listed,
                   f"medians of 3: listing {listed:.1f} s, audit {audited:.1f} s", times=times)
