"""What the log text costs this program's processor: one core, a server on the other one that makes nobody wait.

`open` by a program that doesn't stream waits for the whole copy and reads nothing: that is HTTP to committed store. `cat` adds the way
to the reader, kernel included.
"""

import subprocess
import time

from .common import MB, at_least, cpu_seconds, median_row

MESSAGE = 200
OWN, SERVER = "0", "1"
OPEN = "import sys; open(sys.argv[1]).close()"


def run(bench):
    events = 250_000 if bench.quick else 2_500_000
    text = events * (MESSAGE + 1) / MB
    now = int(time.time() * 1000)
    rows = []
    for how in ("open", "cat"):
        rates, walls, user = [], [], []
        with bench.fake(cpus=SERVER) as fake:
            fake.synth("app", "big", count=events, line_bytes=MESSAGE, first=now - 7_200_000, end=now - 3_600_000)
            for _ in range(bench.runs):
                # A rate that is never in the way.
                rate = ["--rate", "get-log-events=10000,filter-log-events=10000"]
                with bench.mount(fake.url, *rate, cpus=OWN) as mount:
                    path = mount.path / "app/big.log"
                    # Names and connections are there before it is measured.
                    subprocess.run(["ls", mount.path / "app"], stdout=subprocess.DEVNULL, check=True)
                    reader = [bench.python, "-c", OPEN, path] if how == "open" else ["cat", path]
                    before, began = cpu_seconds(mount.pid), time.monotonic()
                    subprocess.run(["taskset", "-c", SERVER, *reader], stdout=subprocess.DEVNULL, check=True)
                    walls.append(text / (time.monotonic() - began))
                    after = cpu_seconds(mount.pid)
                    spent = sum(after) - sum(before)
                    rates.append(text / spent)
                    user.append((after[0] - before[0]) / spent)
        what = "HTTP to committed store" if how == "open" else "HTTP to store to cat"
        beside = f"user {sum(user) / len(user):.0%} of it; {sorted(walls)[len(walls) // 2]:.0f} MB/s by the clock"
        row = median_row(f"{what}, {text:.0f} MB: log text a CPU second", rates, "MB/s", beside=beside)
        if how == "open":
            row.goal, row.met = at_least(row.value, 150).values()
        rows.append(row)
    return rows
