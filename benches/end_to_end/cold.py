"""A big stream that was never read: `cat` against what the quotas allow, and against other clients.

The stream has what was recorded of the service: the end takes two calls more, one first page in eight is empty, and some of its
latest puts are hidden; they are shown between two reads, and must then be at the end of the file.
"""

import hashlib
import random
import time

from .common import AWS, MB, Row, at_least, at_most, median_row, pages, quotas, read_all

MESSAGE = 200
# Puts within the stream's span, and events in each; so many of the puts are hidden.
PUTS, BATCH, HIDDEN = 20, 50, 0.2
# They are the stream's youngest, in ms: what is hidden is what was just put.
YOUNG = 600_000
# How long what was hidden may stay unseen once it is shown, in seconds.
SHOWN = 10
GET, FILTER = 25, 10

# As such loops are written: each page by the token of the one before.
LOOP = """
token = {}
while True:
    page = logs.get_log_events(logGroupName='app', logStreamName='big', startFromHead=True, **token)
    for event in page['events']:
        sys.stdout.write(event['message'] + '\\n')
    if token.get('nextToken') == page['nextForwardToken']:
        break
    token = {'nextToken': page['nextForwardToken']}
"""
PAGINATOR = """
for page in logs.get_paginator('filter_log_events').paginate(logGroupName='app', logStreamNames=['big']):
    for event in page['events']:
        sys.stdout.write(event['message'] + '\\n')
"""


def run(bench):
    rows = case(bench, "even", 40, peers=True)
    rows += case(bench, "even", 200)
    return rows + case(bench, "90 % of the events in 1 % of the time", 40, burst={"events": 0.9, "time": 0.01, "at": 0.6})


def prepare(fake, events, burst):
    now = int(time.time() * 1000)
    first, end = now - 6 * 3_600_000, now - 60_000
    more = {"burst": burst} if burst else {}
    fake.synth("app", "big", count=events, line_bytes=MESSAGE, first=first, end=end, seed=7, **more)
    fake.plan({"seed": 3, "hidden": {"batch": HIDDEN}})
    draw = random.Random(5)
    for number in range(PUTS):
        at = draw.randrange(end - YOUNG, end)
        batch = [{"timestamp": at + i, "message": f"put {number} {i} ".ljust(MESSAGE, "x")} for i in range(BATCH)]
        status, answer = fake.call("PutLogEvents", logGroupName="app", logStreamName="big", logEvents=batch)
        assert status == 200, answer
    fake.plan({"hidden": {"batch": 0}, "empty_first": 0.125})


def case(bench, name, latency, burst=None, peers=False):
    events = 50_000 if bench.quick else 500_000
    ideal = pages(events + PUTS * BATCH, MESSAGE)
    times, firsts, calls, equal, later = [], [], [], True, True
    for number in range(bench.runs):
        with bench.fake() as fake:
            prepare(fake, events, burst)
            fake.plan({"latency_ms": latency, **quotas(GET, FILTER), "seed": number})
            expected = fake.oracle_digest("app", "big", visible=True)
            with bench.mount(fake.url) as mount:
                folder = mount.path / "app"
                read_all(["ls", folder])
                fake.reset()
                length, digest, first, took = read_all(["cat", folder / "big.log"])
                made = fake.calls()["by_call"]
                equal &= (length, digest) == expected
                times.append(took)
                firsts.append(first / (latency / 1000))
                calls.append(sum(made.get(call, 0) for call in ("GetLogEvents", "FilterLogEvents")))
                later &= grows_by_what_was_hidden(fake, folder / "big.log", length, digest)
    title = f"cold cat of {(events + PUTS * BATCH) * (MESSAGE + 1) / MB:.0f} MB, {name}, latency {latency} ms"
    middle = median_row(title, times)
    both, alone = ideal / (GET + FILTER), ideal / GET
    rows = [middle, compare("against GetLogEvents alone", middle, alone, 1.0), compare("against both calls", middle, both, 1.25)]
    rows += [
        median_row("calls ÷ pages", [made / ideal for made in calls], "", beside=f"{ideal} pages"),
        median_row("first byte", firsts, "latencies", beside="folder listed before"),
        Row("bytes equal to the oracle", "yes" if equal else "no", goal="yes", met=equal),
        Row("hidden batches, once shown, are at the end", "yes" if later else "no", goal="yes", met=later),
    ]
    goal(rows[3], 1.15)
    goal(rows[4], 3)
    others = [("boto3, get_log_events loop", lambda url: bench.boto3(url, LOOP))]
    if peers:
        since = ["-s", "1d", "-G", "-S", "--color", "never"]
        others += [
            ("boto3, filter_log_events paginator", lambda url: bench.boto3(url, PAGINATOR)),
            ("awslogs", lambda url: bench.peer(url, [bench.awslogs, "get", "app", "big", *since, "--aws-endpoint-url", url])),
            ("aws logs tail", lambda url: bench.peer(url, aws_tail(url))),
        ]
    for peer, measure in others if burst is None else []:
        took = []
        # awslogs takes minutes.
        for number in range(1 if peer == "awslogs" else bench.peer_runs):
            with bench.fake() as fake:
                prepare(fake, events, burst)
                fake.plan({"latency_ms": latency, **quotas(GET, FILTER), "seed": number})
                took.append(measure(fake.url))
        row = median_row(f"{peer}, latency {latency} ms", took, beside=f"this program {middle.value:.1f} s")
        row.ratio = row.value / middle.value
        if latency == 200:
            row.goal, row.met = at_least(row.ratio, 3).values()
        rows.append(row)
    return rows


def aws_tail(url):
    streams = ["--log-stream-names", "big", "--since", "1d", "--format", "short"]
    return [AWS, "--endpoint-url", url, "logs", "tail", "app", *streams]


def compare(name, row, ideal, limit):
    ratio = row.value / ideal
    return Row(name, row.value, "s", f"{ideal:.2f} s", ratio, **at_most(ratio, limit))


def goal(row, limit):
    row.goal, row.met = at_most(row.value, limit).values()


def grows_by_what_was_hidden(fake, path, length, digest):
    """Shows what was hidden and opens again: the old bytes stay, and what is added is exactly the rest."""
    released = fake.control("release", {})["released"]
    fake.plan({"latency_ms": 0})
    whole = sorted(b"".join(fake.oracle("app", "big")).splitlines())
    until = time.monotonic() + SHOWN
    while True:
        again = path.read_bytes()
        if hashlib.sha256(again[:length]).hexdigest() != digest:
            return False
        if released > 0 and sorted(again.splitlines()) == whole:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(1)
