"""Following many streams of one group, beside as many busy ones that nobody reads.

The follower holds every file open and looks at sizes all the time, as many `tail -f` do; each event tells when it was put, so the delay
is that from the put to its being readable here. The server has no latency of its own beyond the usual one.
"""

import os
import re
import statistics
import subprocess
import time

from .common import REGIONS, Row, at_most, cpu_seconds, quotas

LINE = 200
PUT = re.compile(rb"put (\d+) ")
# How often all sizes are looked at, in seconds.
LOOK = 0.02
# What is asked of the two quotas, in calls a second.
CASES = [((25, 10), 12), ((10, 5), 8)]


def run(bench):
    count = 100 if bench.quick else 1000
    rows = []
    with bench.folder("sync") as folder:
        rows.append(Row("the disk's own sync", sync_ms(folder), "ms", "median of 50 appends of 4 KiB"))
    for quota, limit in CASES:
        rows += case(bench, count, quota, limit)
    return rows


def sync_ms(folder):
    times = []
    with open(folder / "file", "wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            began = time.monotonic()
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - began) * 1000)
    return statistics.median(times)


def case(bench, count, quota, limit):
    seconds, settle = (15, 5) if bench.quick else (60, 20)
    first = int(time.time() * 1000) - 7_200_000
    streams = [{"name": f"{kind}-{{}}", "count": count, "events": 1, "first": first} for kind in ("followed", "busy")]
    region = {"AWS_REGION": REGIONS[quota], "AWS_DEFAULT_REGION": REGIONS[quota]}
    with bench.fake(populate={"groups": [{"name": "app", "streams": streams}]}) as fake:
        with bench.mount(fake.url, environment=region) as mount:
            # Read once without limits: what is measured is the following.
            folder = mount.path / "app"
            names = sorted(name for name in os.listdir(folder) if name.startswith("followed"))
            with open(os.devnull, "wb") as nowhere:
                subprocess.run(["cat", *names], cwd=folder, stdout=nowhere, check=True)
            fake.plan({"latency_ms": 40, **quotas(*quota)})
            files = [os.open(folder / name, os.O_RDONLY) for name in names]
            offsets = [os.fstat(file).st_size for file in files]
            try:
                whole = settle + seconds
                for kind, rate in (("followed", count / 5), ("busy", count)):
                    spec = {"group": "app", "stream": kind + "-{}", "streams": count, "per_second": rate}
                    fake.control("write", {**spec, "line_bytes": LINE, "seconds": whole})
                watch(files, offsets, settle)
                fake.reset()
                before, began = cpu_seconds(mount.pid), time.monotonic()
                delays = watch(files, offsets, seconds)
                took = time.monotonic() - began
                spent = sum(cpu_seconds(mount.pid)) - sum(before)
                calls = fake.calls()
                watch(files, offsets, 5)
                # All that was put is there by now.
                put = sum(len(list(fake.oracle("app", name[:-4]))[0]) for name in names[:50])
                shown = sum(os.fstat(file).st_size for file in files[:50])
            finally:
                for file in files:
                    os.close(file)
    delays.sort()
    title = f"{count:,} followed beside {count:,} busy, quota {quota[0]} + {quota[1]}"
    throttled = calls["throttled"]
    a_second = calls["total"] / took
    at_99 = delays[int(len(delays) * 0.99)] if delays else float("nan")
    by_call = ", ".join(f"{name} {number}" for name, number in sorted(calls["by_call"].items()))
    return [
        Row(f"{title}: calls", a_second, "/s", f"{by_call} in {took:.0f} s; {throttled} throttled", **at_most(a_second, limit)),
        Row("daemon's CPU", 100 * spent / took, "% of a core", **at_most(100 * spent / took, 10)),
        Row("delay, median", statistics.median(delays) if delays else float("nan"), "s", f"{len(delays):,} events"),
        Row("delay, 99th percentile", at_99, "s", **at_most(at_99, 2)),
        Row("bytes of 50 files equal to the oracle's", "yes" if put == shown else f"{shown} of {put}", goal="yes", met=put == shown),
    ]


def watch(files, offsets, seconds):
    """Looks at all sizes for a time, and reads what is new: each event's delay in seconds."""
    delays = []
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        for at, file in enumerate(files):
            size = os.fstat(file).st_size
            if size > offsets[at]:
                new = os.pread(file, size - offsets[at], offsets[at])
                seen = time.time() * 1000
                offsets[at] = size
                delays += [(seen - int(put)) / 1000 for put in PUT.findall(new)]
        time.sleep(max(0, LOOK - (time.monotonic() - now)))
    return delays
