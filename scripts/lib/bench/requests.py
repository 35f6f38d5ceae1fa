"""The costs of requests, compared with a minimal route of the same framework."""
import json
import subprocess

from . import host, load

BODY = json.dumps({"filename": "song.mp3", "content_type": "audio/mpeg", "size": 4194304})
JSON = {"Content-Type": "application/json"}
TURNS = 5
CREATE_TARGET = {"sqlite": 35, "postgres": 25}
BATCH = 100
BATCH_TARGET = 0.6


def service(machine, database):
    env = machine.settings_of_new(database, machine.s3())
    process, address, _ = machine.serve(env)
    return process, address


def bare(machine):
    process = machine.start("bare", [machine.programs["bare"]], stdout=subprocess.PIPE)
    return process, process.child.stdout.readline().decode().strip()


def create_one(address: str) -> tuple:
    """Creates an upload. Returns its id, and the size of the response in bytes."""
    status, body = host.get(f"{address}/api/uploads", data=BODY.encode(), headers=JSON)
    if status != 201:
        host.fail(f"creating an upload returns {status} {body[:300]}")
    return json.loads(body)["id"], len(body)


def create_load(address):
    return f"{address}/api/uploads", load.post(BODY)


def poll_load(address):
    return f"{address}/api/uploads/{create_one(address)[0]}", ""


def list_load(address):
    for _ in range(120):
        create_one(address)
    return f"{address}/api/uploads?limit=100", ""


# Functions from the address of a service to the URL and the script for wrk.
LOADS = {"create": create_load, "poll": poll_load, "list": list_load}


def compare(machine, name, ours, limit, target, cpu_target=None):
    share = 100 * ours["rps"] / limit["rps"]
    machine.record(
        f"{name}, requests/s", f"{ours['rps']:,.0f} = {share:.0f}%", f"≥ {target}%" if target else "",
        share >= target if target else None,
        f"bare route: {limit['rps']:,.0f}/s, {limit['cpu_us']:.0f} µs of CPU",
        share=share, ours=ours, bare=limit)
    machine.record(
        f"{name}, CPU a request", f"{ours['cpu_us']:.0f} µs",
        f"≤ {cpu_target} µs" if cpu_target else "",
        ours["cpu_us"] <= cpu_target if cpu_target else None,
        f"p50 {ours['p50']}, p99 {ours['p99']}")


def both(machine, ours, limit):
    """Measures the service and the bare route, each given as (url, process, script). They are measured in
    turns, because a machine's speed may change by a third within a minute. Returns the figures of the
    turn with the median ratio."""
    seconds = max(1, machine.seconds // TURNS)
    turns = []
    try:
        for turn in range(TURNS):
            turns.append([load.wrk(machine, *one, seconds=seconds, warm=turn == 0)
                          for one in (ours, limit)])
        turns.sort(key=lambda turn: turn[0]["rps"] / turn[1]["rps"])
        return turns[TURNS // 2]
    finally:
        ours[1].stop()
        limit[1].stop()


def create(machine, database):
    process, address = service(machine, database)
    size = create_one(address)[1]
    other, bare_address = bare(machine)
    url, script = create_load(address)
    ours, limit = both(machine, (url, process, script),
                       (f"{bare_address}/create?bytes={size}", other, script))
    cpu_target = 60 if database == "sqlite" else None
    compare(machine, f"create ({database})", ours, limit, CREATE_TARGET[database], cpu_target)


def poll(machine, database):
    process, address = service(machine, database)
    url, _ = poll_load(address)
    size = len(host.get(url)[1])
    other, bare_address = bare(machine)
    path = url.rsplit("/", 1)[1]
    ours, limit = both(machine, (url, process),
                       (f"{bare_address}/get/{path}?bytes={size}", other))
    compare(machine, f"poll ({database})", ours, limit, 50)


def list_100(machine, database):
    process, address = service(machine, database)
    url, _ = list_load(address)
    size = len(host.get(url)[1])
    other, bare_address = bare(machine)
    ours, limit = both(machine, (url, process),
                       (f"{bare_address}/get/x?bytes={size}", other))
    compare(machine, f"list of 100 ({database})", ours, limit, 5)


def batch(machine, database):
    """Measures batches of 100 uploads and single creations on one service, in turns."""
    process, address = service(machine, database)
    create_one(address)
    body = json.dumps({"uploads": [json.loads(BODY)] * BATCH})
    loads = {1: create_load(address), BATCH: (f"{address}/api/uploads/batch", load.post(body))}
    turns = []
    seconds = max(1, machine.seconds // TURNS)
    for turn in range(TURNS):
        # A batch takes as long as many requests. With fewer connections it stays below the timeout.
        turns.append({size: load.wrk(machine, url, process, script, seconds=seconds,
                                     warm=turn == 0, connections=64 if size == 1 else 8)
                      for size, (url, script) in loads.items()})
    process.stop()
    ratio = lambda turn: turn[BATCH]["cpu_us"] / BATCH / turn[1]["cpu_us"]
    turn = sorted(turns, key=ratio)[TURNS // 2]
    single, many = turn[1], turn[BATCH]
    share = ratio(turn)
    machine.record(f"batch of {BATCH}, CPU an upload ({database})",
                   f"{many['cpu_us'] / BATCH:.0f} µs = {100 * share:.0f}% of a single creation",
                   f"≤ {100 * BATCH_TARGET:.0f}%", share <= BATCH_TARGET,
                   f"single {single['cpu_us']:.0f} µs; {many['rps'] * BATCH:,.0f} uploads/s, single "
                   f"{single['rps']:,.0f}/s; p50 {many['p50']}, p99 {many['p99']}",
                   share=share, single=single, batch=many)


def mixed(machine, database):
    process, address = service(machine, database)
    upload = create_one(address)[0]
    script = f"""
local n = 0
function request()
  n = n + 1
  if n % 5 == 0 then
    return wrk.format('POST', '/api/uploads', {{['Content-Type'] = 'application/json'}}, [[{BODY}]])
  end
  return wrk.format('GET', '/api/uploads/{upload}')
end
"""
    ours = load.wrk(machine, address, process, script)
    process.stop()
    machine.record(f"mixed, 1 creation to 4 polls ({database})", f"{ours['rps']:,.0f}/s",
                   limit=f"{ours['cpu_us']:.0f} µs of CPU, p50 {ours['p50']}, p99 {ours['p99']}")
