"""Listings of what is cached: `ls -l` beside a native folder, `find` of a million entries."""

import os
import pathlib
import statistics
import subprocess
import time

from .common import Row, at_least, at_most, median_row, rss_mib
from .requests import Requests, cached

STREAMS = 100_000
# Folders of the million.
GROUPS = 10
LIMIT_MIB = 300


def timed(*command):
    """Seconds of a command whose output is dropped."""
    began = time.monotonic()
    subprocess.run([str(part) for part in command], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def drop_entries():
    """Has the kernel forget names and attributes of all file systems; root only."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("2")


def native(bench, folder, streams):
    """A plain folder of as many files, with names as long."""
    for number in range(streams):
        (folder / f"stream-{number:06}.log").write_bytes(b"x")


def long_listings(bench, streams):
    """`ls -l` of one folder, first and second time, here and native, side by side."""
    first, second, native_first, native_second = [], [], [], []
    with cached(bench, groups=1, streams=streams) as (fake, cache), bench.folder("native") as plain:
        native(bench, plain, streams)
        with bench.mount(fake.url, cache=cache) as mount:
            (folder,) = [path for path in mount.path.iterdir()]
            timed("ls", "-l", folder)
            asked = Requests(mount.path)
            for _ in range(bench.runs):
                drop_entries()
                native_first.append(timed("ls", "-l", plain))
                native_second.append(timed("ls", "-l", plain))
                drop_entries()
                first.append(timed("ls", "-l", folder))
                second.append(timed("ls", "-l", folder))
            total = asked.since()
            asked = Requests(mount.path)
            timed("ls", "-l", folder)
            again = asked.since()
            memory = rss_mib(mount.pid)
    rows = []
    ratio = statistics.median(first) / statistics.median(native_first)
    beside = f"native {statistics.median(native_first):.2f} s"
    rows.append(median_row(f"ls -l of {streams:,}, first", first, beside=beside, ratio=ratio, **at_most(ratio, 1)))
    ratio = statistics.median(native_first) / statistics.median(second)
    beside = f"native {statistics.median(native_second):.2f} s again, {statistics.median(native_first):.2f} s first"
    row = median_row("again; ratio: native first ÷ it", second, beside=beside, ratio=ratio, **at_least(ratio, 2))
    rows.append(row)
    each = (total["getattr"] + total["xattr"] + total["lookup"]) / (2 * bench.runs)
    beside = ", ".join(f"{name} {count}" for name, count in total.items() if count)
    rows.append(Row("getattr, xattr, lookup a listing", each, beside=beside, **at_most(each, 10)))
    beside = ", ".join(f"{name} {count}" for name, count in again.items() if count)
    rows.append(Row("requests of one more", sum(again.values()), beside=beside))
    rows.append(Row("RSS after it", memory[0], "MiB", beside=f"at most {memory[1]:.0f} MiB"))
    return rows


def a_million(bench, groups, streams):
    """`find` over all of it, once as the catalogue has it and once more."""
    with cached(bench, groups=groups, streams=streams) as (fake, cache):
        with bench.mount(fake.url, cache=cache) as mount:
            first = timed("find", mount.path, "-size", "+0")
            second = timed("find", mount.path, "-size", "+0")
            now, most = rss_mib(mount.pid)
    entries = groups * streams
    return [
        Row(f"find -size over {entries:,} entries", first, "s", beside=f"again {second:.1f} s"),
        Row("RSS, greatest", most, "MiB", beside=f"{now:.0f} MiB after it", **at_most(most, LIMIT_MIB)),
    ]


def run(bench):
    streams = STREAMS // 10 if bench.quick else STREAMS
    return long_listings(bench, streams) + a_million(bench, GROUPS, streams)
