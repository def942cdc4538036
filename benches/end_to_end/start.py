"""How long until a mount is ready, with a catalogue of many streams."""

import os
import re
import signal
import statistics
import subprocess
import time

from .common import is_mount, median_row, at_most, unmounted
from .requests import cached

STREAMS = 100_000
LIMIT_MS = 150


def start(bench, fake, cache, home):
    """Mounts in the background: (mount point, daemon, ms to the command's end, ms to the first answer)."""
    path = home / "mnt"
    path.mkdir(exist_ok=True)
    environment = bench.environment(fake.url, home)
    command = [str(bench.program), "--cache-dir", str(cache), str(path)]
    began = time.monotonic()
    subprocess.run(command, env=environment, check=True)
    ready = time.monotonic()
    names = os.listdir(path)
    answered = time.monotonic()
    assert names, "nothing is listed"
    pid = int(re.search(r"pid\D+(\d+)", (cache / "lock").read_text())[1])
    return path, pid, 1000 * (ready - began), 1000 * (answered - began)


def gone(pid, path):
    """Waits for a daemon's end."""
    until = time.monotonic() + 20
    while time.monotonic() < until and os.path.exists(f"/proc/{pid}"):
        time.sleep(0.005)
    unmounted(path)


def run(bench):
    streams = STREAMS // 10 if bench.quick else STREAMS
    rows = []
    with cached(bench, groups=1, streams=streams) as (fake, cache), bench.folder("home") as home:
        path, pid, *_ = start(bench, fake, cache, home)
        for how, sign in (("a clean stop", signal.SIGTERM), ("kill -9", signal.SIGKILL)):
            ready, answered = [], []
            for _ in range(bench.runs):
                os.kill(pid, sign)
                gone(pid, path)
                path, pid, to_ready, to_answer = start(bench, fake, cache, home)
                ready.append(to_ready)
                answered.append(to_answer)
            beside = f"first answer {statistics.median(answered):.0f} ms"
            limit = at_most(statistics.median(ready), LIMIT_MS)
            rows.append(median_row(f"ready after {how}, {streams:,} streams", ready, "ms", beside=beside, **limit))
        os.kill(pid, signal.SIGTERM)
        gone(pid, path)
        assert not is_mount(path)
    return rows
