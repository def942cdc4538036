"""What all scenarios share: servers, mounts and peers as processes that never outlive the bench, and rows of the table.

Everything that is started is listed in `running/`, so that scripts/bench can end it even if this program is killed; besides, each
child asks the kernel to be told when its parent dies.
"""

import contextlib
import ctypes
import dataclasses
import hashlib
import http.client
import itertools
import json
import math
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.parse

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
AWS = "/usr/bin/aws"
MB = 1_000_000
# How long a server or a mount may take to be ready, and to end, in seconds.
START, STOP = 30, 20
# Regions by their quotas: (GetLogEvents, FilterLogEvents) a second.
REGIONS = {(25, 10): "us-east-2", (10, 5): "eu-central-1"}


@dataclasses.dataclass
class Row:
    """A line of the table."""

    # What was measured.
    name: str
    # The median, or a word.
    value: float | str
    unit: str = ""
    # What it is compared with: "ideal 3.1 s".
    beside: str = ""
    # Value over what is beside it.
    ratio: float | None = None
    # As a person reads it: "≤ 1.25".
    goal: str = ""
    met: bool | None = None
    # (least, greatest) of the runs.
    spread: tuple | None = None
    # Set by whoever runs the scenario.
    scenario: str = ""


def median_row(name, values, unit="s", **more):
    """A row of the median of several runs."""
    return Row(name, statistics.median(values), unit, spread=(min(values), max(values)), **more)


def at_most(value, limit):
    """(goal, met) of a value that must not be above a limit."""
    return {"goal": f"≤ {limit:g}", "met": value <= limit}


def at_least(value, limit):
    """(goal, met) of a value that must not be below a limit."""
    return {"goal": f"≥ {limit:g}", "met": value >= limit}


def started(pid):
    """A process's start time, which tells it from a later one of the same number."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(") ")[2].split()[19]


def cpu_seconds(pid):
    """(user, system) of a process so far, all its threads."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(") ")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def rss_mib(pid):
    """(now, at its greatest) in MiB."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return tuple(int(fields[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))


class Bench:
    """One run of scripts/bench."""

    def __init__(self, work, binaries, runs, peer_runs, quick):
        self.work, self.runs, self.quick = work, runs, quick
        self.peer_runs = peer_runs
        self.program = binaries / "cwlogs-mount"
        self.fake_program = binaries / "examples/fake-cloudwatch"
        self.floor_program = binaries / "examples/fuse-floor"
        self.python = sys.executable
        self.awslogs = pathlib.Path(sys.executable).parent / "awslogs"
        self.numbers = itertools.count()

    def say(self, text):
        """To the person who waits for the table."""
        print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def folder(self, name="folder"):
        """A folder that is gone at the end."""
        path = self.work / f"{name}{next(self.numbers)}"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def process(self, command, cpus=None, **more):
        """A child that is ended with the block; `cpus` is a list for taskset, as "0"."""
        if cpus is not None:
            command = ["taskset", "-c", str(cpus), *command]
        parent = os.getpid()

        def before():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        child = subprocess.Popen([str(part) for part in command], preexec_fn=before, **more)
        note = self.work / f"running/{child.pid}"
        try:
            note.write_text(started(child.pid))
            yield child
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(STOP)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
            note.unlink(missing_ok=True)

    @contextlib.contextmanager
    def fake(self, plan=None, populate=None, cpus=None):
        """A test server of its own. The plan holds from the first call on, and comes after `populate`, which has no latency."""
        with self.process([self.fake_program], cpus, stdout=subprocess.PIPE, text=True) as child:
            fake = Fake(child, child.stdout.readline().split()[1])
            if populate:
                fake.control("populate", populate)
            if plan:
                fake.plan(plan)
            yield fake

    @contextlib.contextmanager
    def mount(self, url, *arguments, cache=None, cpus=None, environment=None):
        """This program, mounted in the foreground; `cache` is a folder to keep, or else one that is gone at the end."""
        with contextlib.ExitStack() as stack:
            home = stack.enter_context(self.folder("mount"))
            path = home / "mnt"
            path.mkdir()
            cache = cache or home / "cache"
            command = [self.program, "-f", "--cache-dir", cache, *arguments, path]
            environment = {**self.environment(url, home), **(environment or {})}
            log = stack.enter_context(open(home / "log", "w"))
            child = stack.enter_context(self.process(command, cpus, env=environment, stdout=log, stderr=log))
            stack.callback(unmounted, path)
            until = time.monotonic() + START
            while not is_mount(path):
                if child.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("it doesn't mount: " + (home / "log").read_text())
                time.sleep(0.005)
            yield Mount(path, child, cache, home / "log")

    def environment(self, url, home, region=REGIONS[25, 10]):
        """What this program and its peers are told, and nothing of the machine's own settings."""
        return {
            "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1",
            "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": region, "AWS_REGION": region, "AWS_PAGER": "",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true",
        }

    def peer(self, url, command, limit=3600):
        """Runs a peer to its end with its output dropped; gives seconds, its own start included."""
        with self.folder("peer") as home, open(home / "err", "w") as errors:
            began = time.monotonic()
            output = {"stdout": subprocess.DEVNULL, "stderr": errors}
            with self.process(command, env=self.environment(url, home), **output) as child:
                status = child.wait(limit)
            took = time.monotonic() - began
            if status != 0:
                raise RuntimeError(f"{command[0]} ends with {status}: {(home / 'err').read_text()[-2000:]}")
            return took

    def boto3(self, url, script, *arguments, limit=3600):
        """A Python program with `logs`, a boto3 client; as [`Bench.peer`]."""
        text = "import boto3, sys\nlogs = boto3.client('logs')\n" + script
        return self.peer(url, [self.python, "-c", text, *arguments], limit)


class Fake:
    """A running test server."""

    def __init__(self, process, url):
        self.process, self.url = process, url

    def request(self, method, path, body=None, headers=None):
        """(status, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection(urllib.parse.urlparse(self.url).netloc, timeout=600)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def control(self, path, body=None):
        """One of the server's `/_control/` requests; GET without a body."""
        method = "GET" if body is None else "POST"
        status, answer = self.request(method, f"/_control/{path}", None if body is None else json.dumps(body))
        if status != 200:
            raise RuntimeError(f"{path}: {answer.decode()}")
        return json.loads(answer) if answer else None

    def call(self, name, **arguments):
        """One of the service's calls: (status, answer)."""
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"Logs_20140328.{name}"}
        status, answer = self.request("POST", "/", json.dumps(arguments), headers)
        return status, json.loads(answer) if answer else {}

    def plan(self, patch):
        """Merges hazards into the plan in force."""
        self.control("plan", patch)

    def synth(self, group, stream, **more):
        """Makes a stream of computed events."""
        self.control("synth", {"group": group, "stream": stream, **more})

    def calls(self, log=False):
        """What was asked since the start or the last reset."""
        return self.control("calls?log" if log else "calls")

    def reset(self):
        """Forgets what was asked."""
        self.control("calls/reset", {})

    def oracle(self, group, stream, visible=False):
        """Yields the bytes that the stream's file must hold."""
        query = urllib.parse.urlencode({"group": group, "stream": stream, **({"visible": 1} if visible else {})})
        connection = http.client.HTTPConnection(urllib.parse.urlparse(self.url).netloc, timeout=600)
        try:
            connection.request("GET", f"/_control/oracle?{query}")
            answer = connection.getresponse()
            while piece := answer.read(1 << 20):
                yield piece
        finally:
            connection.close()

    def oracle_digest(self, group, stream, visible=False):
        """(bytes, sha256) of [`Fake::oracle`]."""
        digest, length = hashlib.sha256(), 0
        for piece in self.oracle(group, stream, visible):
            digest.update(piece)
            length += len(piece)
        return length, digest.hexdigest()


@dataclasses.dataclass
class Mount:
    """This program, mounted."""

    path: pathlib.Path
    process: subprocess.Popen
    cache: pathlib.Path
    log: pathlib.Path

    @property
    def pid(self):
        return self.process.pid


def quotas(get=25, filter=10, **more):
    """A plan's quotas: those of a region, which this program knows."""
    return {"quotas": {"region": REGIONS[get, filter], **more}}


def pages(events, message_bytes):
    """How many full pages hold so many events of one size: 1 MiB with 26 bytes for each, or 10,000."""
    return math.ceil(events / min(10_000, (1 << 20) // (message_bytes + 26)))


def is_mount(path):
    """Whether something is mounted there; asks nobody who could hang."""
    with open("/proc/self/mountinfo") as table:
        return any(line.split()[4] == str(path) for line in table)


def unmounted(path):
    """Detaches what a daemon that was killed left."""
    if is_mount(path):
        subprocess.run(["fusermount3", "-u", "-z", str(path)], check=False)


def read_all(command, **more):
    """Runs a command: (bytes, sha256, seconds to the first byte, seconds to the end)."""
    began = time.monotonic()
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, bufsize=0, **more)
    first, pieces = None, []
    while piece := child.stdout.read(1 << 20):
        first = first or time.monotonic() - began
        pieces.append(piece)
    took = time.monotonic() - began
    if status := child.wait():
        raise RuntimeError(f"{command} ends with {status}")
    # Not while it is read: it would take the time of whoever is measured.
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return sum(map(len, pieces)), digest.hexdigest(), first, took
