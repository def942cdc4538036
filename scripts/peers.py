"""Peers side by side; run by scripts/peers.

Each cell has a fake CloudWatch of its own with the same plan and the same events. A reader that is still running after the time limit
hangs. Lines are compared as a multiset with what the service accepted.
"""

import collections
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GROUP, STREAM = "app", "s"
LIMIT = 90
WRITING, SETTLING = 20, 45
PYTHON = sys.executable
BIN = os.path.dirname(PYTHON)
AWS = "/usr/bin/aws"
MOUNT = os.environ.get("CWLOGS_PEERS_BINARY", os.path.join(ROOT, "target/debug/cwlogs-mount"))
FAKE = os.path.join(ROOT, "target/debug/examples/fake-cloudwatch")

PAGINATOR = """
import boto3, os, sys
logs = boto3.client("logs")
for page in logs.get_paginator("filter_log_events").paginate(logGroupName="app", logStreamNames=["s"]):
    for event in page["events"]:
        sys.stdout.write(event["message"] + "\\n")
"""

# As such loops are written: each round from the newest timestamp seen, one millisecond further.
FOLLOWER = """
import boto3, sys, time
logs = boto3.client("logs")
start = int(time.time() * 1000) - 3_600_000
while True:
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName="app", logStreamNames=["s"], startTime=start)
    for page in pages:
        for event in page["events"]:
            sys.stdout.write(event["message"] + "\\n")
            start = max(start, event["timestamp"] + 1)
    sys.stdout.flush()
    time.sleep(1)
"""


def rule(kind, call=None, **more):
    return {"kind": kind, **({"call": call} if call else {}), **more}


SMALL = {"page_events": 100}
HOUR = 3_600_000
# What the service says of its own time is an hour behind what the machine says.
AHEAD = {"clock_offset_ms": -HOUR}
NO_FILTER = {"faults": [rule("access_denied", "FilterLogEvents")]}
# An emoji whose second half another event has.
HALF = "cut \ud83d"
READS = [
    ("none", SMALL),
    ("100 equal events in one millisecond, twenty times", {**SMALL, "equal": True}),
    ("empty first pages, empty and short pages", {**SMALL, "empty_first": 0.5, "empty_page": 0.3, "partial_page": 0.3}),
    ("5 calls a second, the rest throttled", {**SMALL, "quotas": {"rates": {"GetLogEvents": 5, "FilterLogEvents": 5}}}),
    ("every third call 500, 503 or a reset", {**SMALL, "faults": [
        rule("internal_error", rate=0.12), rule("service_unavailable", rate=0.12), rule("reset_in_body", rate=0.12)]}),
    ("every fifth body cut short", {**SMALL, "faults": [rule("truncated_body", rate=0.2)]}),
    ("page tokens expire twice", {**SMALL, "faults": [rule("expired_token", skip=5, times=2)]}),
    ("one call never answered", {**SMALL, "faults": [
        rule("hang", "GetLogEvents", skip=3, times=1), rule("hang", "FilterLogEvents", skip=3, times=1)]}),
    ("the machine's clock an hour ahead", {**SMALL, **AHEAD}),
    ("FilterLogEvents denied", {**SMALL, **NO_FILTER}),
    ("one event holds half a surrogate pair", {**SMALL, "half": True}),
    ("730 empty pages where older events have expired", {
        **SMALL, "expired": True, "enforce_retention": True, "expired_pages": 730}),
]
FOLLOWS = [
    ("none", {}),
    ("every fifth event shown 3–8 s late", {"hidden": {"event": 0.2, "from_ms": 3000, "for_ms": 8000}}),
    ("every fifth event stamped 2 min back", {"late": True}),
    ("bursts of 5 events in one millisecond, split over puts", {"bursts": True}),
    ("network gone for 8 s", {"outage": True}),
    ("the machine's clock an hour ahead", AHEAD),
    ("FilterLogEvents denied", NO_FILTER),
    ("one event holds half a surrogate pair", {"half": True}),
    ("a reader that looks at the size, and opens once it has grown", {"looks": True}),
]


class Fake:
    """A server of its own."""

    def __init__(self, plan):
        self.process = subprocess.Popen([FAKE], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[1]
        self.plan = plan

    def send(self, path, body, target=None):
        headers = {"content-type": "application/x-amz-json-1.1"}
        if target:
            headers["x-amz-target"] = "Logs_20140328." + target
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        while True:
            try:
                return urllib.request.urlopen(request, timeout=10).read()
            except urllib.error.HTTPError as error:
                if b"AlreadyExists" not in (text := error.read()):
                    raise RuntimeError(text) from error
                return b""
            except urllib.error.URLError:
                # The network is gone for the writer too.
                time.sleep(0.05)

    def enforce(self):
        own = ("equal", "late", "bursts", "outage", "half", "expired", "looks")
        self.send("/_control/plan", {key: value for key, value in self.plan.items() if key not in own})

    def create(self):
        self.send("/_control/plan", {"clock_offset_ms": self.plan.get("clock_offset_ms", 0)})
        self.send("/", {"logGroupName": GROUP}, "CreateLogGroup")
        self.send("/", {"logGroupName": GROUP, "logStreamName": STREAM}, "CreateLogStream")

    def put(self, events):
        events = [{"timestamp": at, "message": message} for at, message in events]
        self.send("/", {"logGroupName": GROUP, "logStreamName": STREAM, "logEvents": events}, "PutLogEvents")

    def now(self):
        """The service's time in ms: writers' clocks are right."""
        return int(time.time() * 1000) + self.plan.get("clock_offset_ms", 0)

    def oracle(self):
        query = urllib.parse.urlencode({"group": GROUP, "stream": STREAM})
        return urllib.request.urlopen(f"{self.url}/_control/oracle?{query}").read().decode().splitlines()

    def end(self):
        self.process.terminate()
        self.process.wait()


def environment(fake, home):
    return {
        "PATH": os.environ["PATH"], "HOME": home, "AWS_ENDPOINT_URL": fake.url, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true", "PYTHONUNBUFFERED": "1", "AWS_PAGER": "",
    }


def mounted(fake, home, what):
    """The command reads a mount of its own; the shell ends both."""
    return ["bash", "-c", f"""
        mkdir {home}/m
        {MOUNT} --cache-dir {home}/cache {home}/m >&2 || exit 9
        trap '{MOUNT} --unmount {home}/m' EXIT
        {what} {home}/m/{GROUP}/{STREAM}.log & wait $!"""]


def awslogs(fake, *more):
    return [f"{BIN}/awslogs", "get", GROUP, STREAM, "-G", "-S", "--color", "never", "--aws-endpoint-url", fake.url, *more]


def logs_tail(fake, *more):
    """Each line without the time that it begins with."""
    command = f"{AWS} --endpoint-url {fake.url} logs tail {GROUP} --log-stream-names {STREAM} --format short"
    return ["bash", "-o", "pipefail", "-c", f"{command} {' '.join(more)} | sed -u 's/^[^ ]* //'"]


READERS = [
    ("awslogs", lambda fake, home: awslogs(fake, "-s", "1d")),
    ("boto3 paginator", lambda fake, home: [PYTHON, "-c", PAGINATOR]),
    ("aws logs tail", lambda fake, home: logs_tail(fake, "--since", "1d")),
    ("cwlogs-mount", lambda fake, home: mounted(fake, home, "cat")),
]
FOLLOWERS = [
    ("awslogs", lambda fake, home: awslogs(fake, "-s", "1h", "-w")),
    ("boto3 paginator", lambda fake, home: [PYTHON, "-c", FOLLOWER]),
    ("aws logs tail", lambda fake, home: logs_tail(fake, "--since", "1h", "--follow")),
    ("cwlogs-mount", lambda fake, home: mounted(fake, home, "tail -n +1 -f")),
]


# As shippers and `fs.watchFile` follow a file: by its size each second, and opened only for what has come.
LOOKER = """
import os, sys, time
path, read = sys.argv[1], 0
while True:
    if os.stat(path).st_size > read:
        with open(path, "rb") as file:
            file.seek(read)
            bytes = file.read()
        read += len(bytes)
        sys.stdout.buffer.write(bytes)
        sys.stdout.flush()
    time.sleep(1)
"""


def looker(fake, home):
    return mounted(fake, home, f"{PYTHON} -c '{LOOKER}'")


def run(command, fake, home, limit):
    """(lines, exit status or None if it was ended, seconds)"""
    with open(f"{home}/out", "wb") as out, open(f"{home}/err", "wb") as err:
        began = time.monotonic()
        # A group of its own, ended as a whole.
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment(fake, home), start_new_session=True)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(process.pid, 15)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
        took = time.monotonic() - began
    with open(f"{home}/out", encoding="utf-8", errors="replace") as out:
        return [line.rstrip("\n") for line in out if line.strip()], status, took


def verdict(lines, expected, status, took, following):
    shown, accepted = collections.Counter(lines), collections.Counter(expected)
    lost, doubled = sum((accepted - shown).values()), sum((shown - accepted).values())
    said = []
    if not following and status is None:
        said.append(f"hangs ({LIMIT} s)")
    elif status:
        said.append("fails" if not following else "ends with an error")
    elif following and status == 0:
        said.append("ends")
    if lost:
        said.append(f"loses {lost}")
    if doubled:
        said.append(f"doubles {doubled}")
    text = ", ".join(said) or "all, once"
    return text if following else f"{text} ({took:.1f} s)"


def read(make, plan, home):
    fake = Fake(plan)
    try:
        fake.create()
        first = fake.now() - 2 * HOUR
        if plan.get("expired"):
            fake.send("/", {"logGroupName": GROUP, "retentionInDays": 1}, "PutRetentionPolicy")
            fake.put([(first - 72 * HOUR + i, f"expired {i}") for i in range(100)])
        if plan.get("half"):
            fake.put([(first + 55, HALF)])
        step = 0 if plan.get("equal") else 100
        for batch in range(20):
            at = first + batch * 10_000
            if step:
                fake.put([(at + i * step, f"event {batch * 100 + i:05}") for i in range(100)])
            else:
                fake.put([(at, f"event {batch:05}")] * 100)
        fake.enforce()
        lines, status, took = run(make(fake, home), fake, home, LIMIT)
        accepted = [line for line in fake.oracle() if not line.startswith("expired")]
        return verdict(lines, accepted, status, took, False)
    finally:
        fake.end()


def write(fake, plan):
    """Ten events a second."""
    number, began = 0, time.monotonic()
    outage = plan.get("outage")
    while (past := time.monotonic() - began) < WRITING:
        if outage and past > 5:
            outage = False
            fake.send("/_control/network", {"down_ms": 8000})
        now = fake.now()
        if plan.get("half") and number == 50:
            fake.put([(now, HALF)])
        if plan.get("bursts"):
            # Half of a burst now, the rest of the same millisecond a second later.
            if number % 50 == 0:
                burst = now
            if number % 10 == 0:
                fake.put([(burst, f"event {number:05} {i}") for i in range(5)])
        elif plan.get("late") and number % 5 == 0:
            fake.put([(now - 120_000, f"event {number:05}")])
        else:
            fake.put([(now, f"event {number:05}")])
        number += 1
        time.sleep(max(0, began + number * 0.1 - time.monotonic()) if not plan.get("outage") else 0.1)


def follow(make, plan, home):
    fake = Fake(plan)
    try:
        fake.create()
        fake.put([(fake.now() - 1000, "event first")])
        fake.enforce()
        writer = threading.Timer(4, write, (fake, plan))
        writer.start()
        lines, status, took = run(make(fake, home), fake, home, 4 + WRITING + SETTLING)
        writer.join()
        return verdict(lines, fake.oracle(), status, took, True)
    finally:
        fake.end()


def main():
    only = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="peers") as folder, concurrent.futures.ThreadPoolExecutor(8) as pool:
        cells = []
        for name, scenarios, readers, measure in (("read", READS, READERS, read), ("follow", FOLLOWS, FOLLOWERS, follow)):
            for number, (fault, plan) in enumerate(scenarios):
                if only and name not in only:
                    continue
                row = []
                for peer, make in readers:
                    if plan.get("looks"):
                        make = looker if peer == "cwlogs-mount" else None
                    home = f"{folder}/{name}{number}{peer.replace(' ', '')}"
                    os.mkdir(home)
                    row.append(pool.submit(measure, make, plan, home) if make else None)
                cells.append((name, fault, row))
        for name, heading in (("read", "read once, 2,000 events"), ("follow", f"followed for {WRITING} s, 200 events")):
            rows = [(fault, row) for which, fault, row in cells if which == name]
            if rows:
                print(f"\n| {heading}: fault | " + " | ".join(peer for peer, _ in READERS) + " |\n|" + " --- |" * 5, flush=True)
            for fault, row in rows:
                print(f"| {fault} | " + " | ".join(cell.result() if cell else "has no file" for cell in row) + " |", flush=True)


main()
