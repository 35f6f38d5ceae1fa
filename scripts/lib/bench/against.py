"""Compares this build with an older binary, in turns, because a machine's speed changes within minutes."""
import json
import os
import statistics
import subprocess
from datetime import datetime

from . import host, load, requests

SUBJECTS = ("create", "poll", "list", "audit")
AUDITED = 200_000
# The speed of the new build must be at least this share of the old build's speed.
LEAST = 0.8


def run(machine, database, subject, old):
    """Records the ratios new/old of one subject."""
    programs = {"old": old, "new": machine.programs["upload-coordinator"]}
    measure = audits if subject == "audit" else requests_of
    turns = measure(machine, database, subject, programs)
    unit = "objects/s" if subject == "audit" else "requests/s"
    record(machine, f"{subject} ({database}), {unit}", turns, "rate", LEAST)
    record(machine, f"{subject} ({database}), CPU", turns, "cpu_us")


def record(machine, name, turns, field, least=None):
    ratios = sorted(turn["new"][field] / turn["old"][field] for turn in turns)
    ratio = statistics.median(ratios)
    old, new = (statistics.median(turn[who][field] for turn in turns) for who in ("old", "new"))
    unit = "/s" if field == "rate" else " µs"
    machine.record(
        f"{name}, new/old", f"{ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        f"≥ {least:.2f}" if least else "", ratio >= least if least else None,
        f"old {old:,.0f}{unit}, new {new:,.0f}{unit}", ratio=ratio, turns=turns)


def in_turns(rounds, work) -> list:
    """Runs the work of both binaries in each round, and returns the results of the rounds. The order
    alternates. An extra first round warms up, and is not returned."""
    turns = []
    for turn in range(rounds + 1):
        order = list(work)[:: -1 if turn % 2 else 1]
        turns.append({who: work[who]() for who in order})
    return turns[1:]


def requests_of(machine, database, subject, programs):
    services, work = [], {}
    for who, program in programs.items():
        env = machine.settings_of_new(database, machine.s3())
        process, address, _ = machine.serve(env, program)
        services.append(process)
        url, script = requests.LOADS[subject](address)
        work[who] = lambda url=url, process=process, script=script: under_load(
            machine, url, process, script)
    try:
        return in_turns(machine.rounds, work)
    finally:
        for process in services:
            process.stop()


def under_load(machine, url, process, script):
    figures = load.wrk(machine, url, process, script, warm=False)
    return {"rate": figures["rps"], "cpu_us": figures["cpu_us"]}


def audits(machine, database, _subject, programs):
    """Runs `reconcile --mode audit` of both binaries on one database. The bucket's listing is computed."""
    url = machine.database(database)
    bench = machine.programs["reconcile"]
    subprocess.run([bench, "fill", url, str(AUDITED)], check=True)
    bucket = machine.start("bucket", [bench, "serve", url, str(AUDITED)], stdout=subprocess.PIPE)
    endpoint = bucket.child.stdout.readline().decode().strip()
    store = {"TEST_S3_ENDPOINT": endpoint, "TEST_S3_BUCKET": "bench", "TEST_S3_REGION": "us-east-1",
             "TEST_S3_ACCESS_KEY_ID": "bench", "TEST_S3_SECRET_ACCESS_KEY": "bench"}
    env = machine.settings(url, store, STORAGE__DEFAULT__PROBE="false", TELEMETRY__LOG="warn")
    try:
        return in_turns(machine.rounds, {
            who: lambda program=program: audit(program, env) for who, program in programs.items()})
    finally:
        bucket.stop()


def audit(program, env):
    before = os.times()
    done = subprocess.run([program, "reconcile", "--mode", "audit", "--json"], env=env,
                          capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode:
        host.fail(f"{program} reconcile: {done.stdout}{done.stderr}")
    result = json.loads(done.stdout)
    listed = result["counters"]["listed"]
    if listed < AUDITED:
        host.fail(f"an audit of {AUDITED} objects listed {listed}")
    began, ended = (datetime.fromisoformat(result[at]) for at in ("started_at", "finished_at"))
    spent = (after.children_user - before.children_user
             + after.children_system - before.children_system)
    return {"rate": listed / (ended - began).total_seconds(), "cpu_us": spent / listed * 1e6}
