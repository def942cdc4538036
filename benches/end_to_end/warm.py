"""Warm reads beside the same bytes on the local disk and beside FUSE's own floor, in one run, side by side.

`cat` of one big file and `grep -c` over many: first with no page of them in memory, then again. Each round takes the three in turn. The
floor is a mount that answers by pread and does nothing else. Where the daemon may have the kernel read texts by itself (root), a file's
first read after a mount goes through the daemon, which proves it, and later ones don't; both are shown.
"""

import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import time

from .common import Row, at_least, at_most, median_row, rss_mib, unmounted, is_mount
from .requests import Requests

MIB = 1 << 20
LINE = 255
# Repeats with the pages in memory, a round: a tenth of a second each is little.
AGAIN = 5
# Of the native file system's speed, where the kernel reads a big file by itself.
PASSED_THROUGH = 0.95


def drop_pages():
    """Has the kernel forget pages of files; root only."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")


def timed(command):
    """(seconds, user and system seconds of the command itself), its output dropped."""
    before = os.times()
    began = time.monotonic()
    subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, check=True)
    took = time.monotonic() - began
    after = os.times()
    return took, after[2] + after[3] - before[2] - before[3]


@contextlib.contextmanager
def floor(bench, files):
    """The floor's mount of a folder of plain files."""
    with bench.folder("floor") as path:
        with bench.process([bench.floor_program, files, path]) as child:
            try:
                until = time.monotonic() + 10
                while not is_mount(path):
                    assert child.poll() is None and time.monotonic() < until, "the floor doesn't mount"
                    time.sleep(0.005)
                read_ahead(path)
                yield path
            finally:
                unmounted(path)


def read_ahead(path, kib=1024):
    """Sets a mount's read-ahead as this program does."""
    device = os.stat(path).st_dev
    pathlib.Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").write_text(str(kib))


def spec(group, streams, mebibytes):
    """A group of computed streams, all of them an hour old and more."""
    first = int(time.time() * 1000) - 3 * 3_600_000
    count = mebibytes * MIB // (LINE + 1)
    stream = {"name": "s-{}", "count": streams, "events": count, "line_bytes": LINE, "first": first, "step_ms": 1}
    return {"name": group, "created": first - 86_400_000, "streams": [stream]}


def listed(counts):
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def compare(bench, name, command, places, mount, files):
    """Rows of one command over the same bytes in three places."""
    cold, hot = ({place: [] for place in places} for _ in range(2))
    counts = None
    for _ in range(bench.runs):
        for place, folder in places.items():
            drop_pages()
            cold[place].append(timed(command.format(folder))[0])
            hot[place] += [timed(command.format(folder))[0] for _ in range(AGAIN)]
    asked = Requests(mount.path)
    timed(command.format(places["here"]))
    counts = asked.since()
    rows = []
    for what, times in ((f"{name}, no page in memory", cold), (f"{name}, again", hot)):
        here, native, bare = (statistics.median(times[place]) for place in ("here", "native", "floor"))
        beside = f"native {native:.2f} s, floor {bare:.2f} s"
        goal = at_least(native / here, PASSED_THROUGH) if times is hot and counts["passthrough"] == files == 1 else {}
        rows.append(median_row(f"{what}; ratio: native ÷ it", times["here"], beside=beside, ratio=native / here, **goal))
        ratio = bare / here
        rows.append(Row("floor ÷ it", ratio, goal="≥ 0.9", met=ratio >= 0.9))
    each = {kind: count / files for kind, count in counts.items() if count}
    fine = each.get("open", 0) <= 1 and each.get("release", 0) <= 1 and each.get("getattr", 0) <= 1.1
    fine = fine and not any(each.get(kind, 0) > 0.1 for kind in ("flush", "lookup", "read", "xattr"))
    beside = listed(counts)
    rows.append(Row(f"requests of one more, {files:,} files", sum(counts.values()), beside=beside, met=fine,
                    goal="a file: open, release, ≤ 1 getattr"))
    return rows


def run(bench):
    big, many = (64, 100) if bench.quick else (1024, 1000)
    # Few enough calls that the reading and not the arriving takes the time; no quotas.
    populate = {"groups": [spec("/bench/big", 1, big), spec("/bench/many", many, 1)]}
    rows = []
    with bench.folder("cache") as home, bench.fake(populate=populate) as fake:
        cache = home / "cache"
        with bench.mount(fake.url, "--rate", "get-log-events=1000,filter-log-events=1000", cache=cache) as mount:
            folders = {path.name: path for path in mount.path.iterdir()}
            for path in folders.values():
                subprocess.run(f"cat {path}/* > /dev/null", shell=True, check=True)
        with bench.folder("plain") as plain:
            with bench.mount(fake.url, cache=cache) as mount:
                folders = {path.name: mount.path / path.name for path in mount.path.iterdir()}
                drop_pages()
                (one,) = folders["bench-big"].iterdir()
                asked = Requests(mount.path)
                took, _ = timed(f"cat {one}")
                beside = listed(asked.since())
                rows.append(Row(f"cat of {big} MiB, first after a mount", took, "s", beside=beside))
                rows.append(Row("RSS after it, greatest", rss_mib(mount.pid)[1], "MiB", **at_most(rss_mib(mount.pid)[1], 256)))
                for name, path in folders.items():
                    (plain / name).mkdir()
                    subprocess.run(["cp", "-r", f"{path}/.", str(plain / name)], check=True)
                for name, command, files in (
                    ("bench-big", f"cat {{}}/{one.name}", 1),
                    # Into a pipe: a grep that sees its output dropped stops at the first match.
                    ("bench-many", "grep -rc status=200 {} | cat", many),
                ):
                    with floor(bench, plain / name) as bare:
                        places = {"native": plain / name, "floor": bare, "here": folders[name]}
                        title = f"cat of {big} MiB" if files == 1 else f"grep -rc over {many:,} × 1 MiB"
                        rows += compare(bench, title, command, places, mount, files)
                rows.append(Row("RSS at the end, greatest", rss_mib(mount.pid)[1], "MiB"))
    return rows
