"""Many streams of one group that were never read: `grep -r` against what FilterLogEvents allows, and against a loop by stream."""

import math
import time

from .common import Row, at_least, at_most, median_row, pages, quotas, read_all

MESSAGE = 200
GET, FILTER, LIST = 25, 10, 25
# Streams that a page of the listing holds.
LISTED = 50

# Each stream from its head to its end; the names come from the listing.
LOOP = """
for streams in logs.get_paginator('describe_log_streams').paginate(logGroupName='app'):
    for stream in streams['logStreams']:
        token = {}
        while True:
            page = logs.get_log_events(logGroupName='app', logStreamName=stream['logStreamName'], startFromHead=True, **token)
            for event in page['events']:
                sys.stdout.write(event['message'] + '\\n')
            if token.get('nextToken') == page['nextForwardToken']:
                break
            token = {'nextToken': page['nextForwardToken']}
"""


# Events of a stream of two pages: 1.3 MB.
MIDDLE = 6_000
# Calls that prove the end of a stream by GetLogEvents.
END = 2


def run(bench):
    small = 100 if bench.quick else 1000
    even = [(small, 50)]
    skewed = [(small - 10, 50), (10, 10_000 if bench.quick else 100_000)]
    rows = case(bench, "even", even, loop=True) + case(bench, "skewed", skewed)
    for count in (15, 50) if bench.quick else (150, 1000):
        for filter_rate in (FILTER, GET):
            rows += middle(bench, count, filter_rate)
    return rows


def middle(bench, count, filter_rate):
    """A walk through streams of two pages each, against the pages and the calls that prove the ends, at both quotas."""
    own = pages(MIDDLE, MESSAGE)
    alone = count * (own + END)
    # The best of all plans that know each size before: some streams by GetLogEvents, the rest in one read of FilterLogEvents.
    filtered = pages(count * MIDDLE, MESSAGE) + 1
    best = 1 / (GET / alone + filter_rate / filtered)
    times, calls, right = [], [], True
    for number in range(bench.runs):
        with bench.fake(populate=populate([(count, MIDDLE)])) as fake:
            fake.plan({"latency_ms": 40, **quotas(GET, FILTER, rates={"FilterLogEvents": filter_rate}), "seed": number})
            with bench.mount(fake.url, "--rate", f"filter-log-events={filter_rate}") as mount:
                read_all(["ls", mount.path / "app"])
                fake.reset()
                command = ["sh", "-c", f"grep -rc 'no line holds this' {mount.path}/app | wc -l"]
                times.append(read_all(command)[3])
                made = fake.calls()["by_call"]
                calls.append(sum(made.get(call, 0) for call in ("GetLogEvents", "FilterLogEvents")))
                lines = read_all(["sh", "-c", f"cat {mount.path}/app/* | wc -l"])
                right &= lines[:2] == read_all(["echo", count * MIDDLE])[:2]
    row = median_row(f"cold grep -r over {count:,} streams of {own} pages, {GET} + {filter_rate} calls/s", times)
    return [
        row,
        compare("against the pages and the ends at both quotas", row, alone / (GET + filter_rate), 1.15),
        compare("against the best split of both calls", row, best, 1.5),
        median_row("calls", calls, "", beside=f"{alone} by stream, {filtered} by FilterLogEvents alone"),
        Row("every line is there", "yes" if right else "no", goal="yes", met=right),
    ]


def populate(shape):
    """Groups of streams, (count, events of each), that lived side by side for an hour."""
    first = int(time.time() * 1000) - 4 * 3_600_000
    streams = [
        {"name": f"s{at}-{{}}", "count": count, "events": events, "line_bytes": MESSAGE, "first": first,
         "step_ms": 3_600_000 // events, "stagger_ms": 7, "seed": at}
        for at, (count, events) in enumerate(shape)
    ]
    return {"groups": [{"name": "app", "streams": streams}]}


def case(bench, name, shape, loop=False):
    count = sum(streams for streams, _ in shape)
    events = sum(streams * each for streams, each in shape)
    listing = math.ceil(count / LISTED)
    # The whole group by FilterLogEvents, whose end takes a call more.
    filtered = (pages(events, MESSAGE) + 1) / FILTER
    # Small streams so, big ones by their pages with both calls at once.
    small = sum(streams * each for streams, each in shape if each < 1000)
    big = sum(streams * pages(each, MESSAGE) for streams, each in shape if each >= 1000)
    mixed = (pages(small, MESSAGE) + 1 + big) / (GET + FILTER)
    better = min(filtered, mixed) if big else filtered
    with_listing = better + listing / LIST
    times, calls, right = [], [], True
    for number in range(bench.runs):
        with bench.fake(populate=populate(shape)) as fake:
            fake.plan({"latency_ms": 40, **quotas(GET, FILTER), "seed": number})
            with bench.mount(fake.url) as mount:
                # No line holds it, so that each file is read to its end.
                command = ["sh", "-c", f"grep -rc 'no line holds this' {mount.path}/app | wc -l"]
                _, _, _, took = read_all(command)
                times.append(took)
                calls.append(fake.calls()["total"])
                lines = read_all(["sh", "-c", f"cat {mount.path}/app/* | wc -l"])
                right &= lines[:2] == read_all(["echo", events])[:2]
    row = median_row(f"cold grep -r over {count:,} streams, {name} ({events * (MESSAGE + 1) / 1e6:.0f} MB)", times)
    made = median_row("calls", calls, "", beside=f"ideal {pages(events, MESSAGE) + 1} + {listing} of the listing")
    rows = [
        row,
        compare("against the better plan", row, better, 1.5),
        compare("against that and the listing's pages", row, with_listing, 1.5),
        made,
        Row("every line is there", "yes" if right else "no", goal="yes", met=right),
    ]
    if loop:
        loops, loop_calls = [], []
        # Minutes each, so once.
        with bench.fake(populate=populate(shape)) as fake:
            fake.plan({"latency_ms": 40, **quotas(GET, FILTER)})
            loops.append(bench.boto3(fake.url, LOOP))
            loop_calls.append(fake.calls()["total"])
        peer = median_row("boto3 loop by stream (once)", loops, beside=f"this program {row.value:.1f} s")
        asked = median_row("its calls", loop_calls, "", beside=f"this program {made.value:.0f}")
        for other, own in ((peer, row), (asked, made)):
            other.ratio = other.value / own.value
            other.goal, other.met = at_least(other.ratio, 10).values()
        rows += [peer, asked]
    return rows


def compare(name, row, ideal, limit):
    ratio = row.value / ideal
    return Row(name, row.value, "s", f"{ideal:.2f} s", ratio, **at_most(ratio, limit))
