"""Runs scenarios and prints their table; started by scripts/bench."""

import argparse
import importlib
import json
import pathlib
import signal
import sys
import time
import traceback

from . import table
from .common import Bench

# In this order.
SCENARIOS = ["ceiling", "cold", "sweep", "follow", "throttle", "cpu", "warm", "listing", "start"]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all unless named")
    parser.add_argument("--runs", type=int, default=5, help="medians are of so many")
    parser.add_argument("--peer-runs", type=int, metavar="N", help="the same for other clients, some of which take minutes")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and one run")
    parser.add_argument("--json", metavar="FILE", help="writes the rows there too")
    parser.add_argument("--work", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")

    # An end by signal is an exception, so that every `with` ends what it began.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    runs = 1 if options.quick else options.runs
    bench = Bench(options.work, options.bin, runs, options.peer_runs or runs, options.quick)
    rows, failed = [], False
    for name in options.scenario or SCENARIOS:
        began = time.monotonic()
        try:
            found = importlib.import_module(f"end_to_end.{name}").run(bench)
        except Exception:
            # The other scenarios still have something to say.
            traceback.print_exc()
            failed = True
            continue
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        for row in found:
            row.scenario = name
        rows += found
    print(table.markdown(rows), flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")
    sys.exit(1 if failed else 0)


main()
