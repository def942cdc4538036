"""The soak's other half, started by scripts/soak: writes events, follows files, restarts the daemon, and counts.

What must hold: every accepted event is in its stream's file exactly once; a follower that keeps path, inode and offset
over restarts has read exactly the final file; the daemon's memory and descriptors don't grow. Exit status 1 and a line
for each thing that doesn't.
"""

import argparse
import collections
import ctypes
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

READS = ["GetLogEvents", "FilterLogEvents", "DescribeLogStreams", "DescribeLogGroups"]
EVENTS = READS[:2]
# Kind of fault: the calls that meet it.
FAULTS = {
    "throttle": READS,
    "internal_error": READS,
    "service_unavailable": READS,
    "reset_before_head": READS,
    "reset_in_head": READS,
    "reset_in_body": READS,
    "truncated_body": READS,
    "slow_body": READS,
    "expired_token": READS,
    "repeat_token": EVENTS,
    "empty_page": EVENTS,
}
# How long a clean stop may take, in seconds.
STOP = 15
# How long a start may take, in seconds.
START = 30
# After so many seconds of a daemon's life growth is counted.
WARM = 20
# How long the first opens of all streams may take, in seconds; the service has no bad days before.
FIRST = 120


def options():
    parser = argparse.ArgumentParser(
        prog="scripts/soak", formatter_class=argparse.ArgumentDefaultsHelpFormatter, description=__doc__
    )
    number = {"type": float, "metavar": "N"}
    seconds = {"type": float, "metavar": "SECONDS"}
    add = parser.add_argument
    for name in ["--url", "--work", "--program"]:
        add(name, required=True, help=argparse.SUPPRESS)
    add("--minutes", **number, default=15, help="how long events are written")
    add("--drain", **seconds, default=240, help="how long the daemon has after the last event")
    add("--restart-every", **seconds, default=60, help="SIGTERM and SIGKILL take turns; 0 is never")
    add("--settle-after", default="90s", metavar="DURATION", help="passed to the daemon")
    within = "passed to the daemon; lateness and hiding together must lie within"
    add("--late-window", default="10m", metavar="DURATION", help=within)
    add("--streams", type=int, default=200, metavar="N", help="followed streams")
    add("--puts", **number, default=50, help="batches a second")
    add("--faults", **number, default=0.05, help="part of the calls that meets each kind of fault")
    add("--late", **number, default=0.01, help="part of the events that is late")
    add("--late-by", **seconds, default=300, help="how late they are at most")
    add("--hidden", **number, default=0.05, help="part of the batches that no read shows for a time")
    add("--hidden-for", **seconds, default=180, help="for how long at most")
    add("--missing", **number, default=0.05, help="how often an answer lacks a young event")
    add("--young", **seconds, default=60, help="how old such an event is at most")
    add("--seed", type=int, default=None, help="of all choices by chance")
    return parser.parse_args()


class Service:
    """The fake service, one connection a thread."""

    def __init__(self, url):
        self.host = urllib.parse.urlsplit(url).netloc
        self.local = threading.local()

    def send(self, method, path, body=None, headers=None):
        for attempt in range(3):
            connection = getattr(self.local, "connection", None)
            if connection is None:
                connection = self.local.connection = http.client.HTTPConnection(self.host, timeout=60)
            try:
                connection.request(method, path, body, headers or {})
                answer = connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.local.connection = None
                # A put that was sent twice would be there twice.
                if method != "GET":
                    raise
                continue
            if answer.status != 200:
                raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
            return data
        raise RuntimeError(f"{method} {path}: no answer")

    def call(self, name, **arguments):
        headers = {"x-amz-target": "Logs_20140328." + name, "content-type": "application/x-amz-json-1.1"}
        self.send("POST", "/", json.dumps(arguments), headers)

    def control(self, method, path, body=None):
        return self.send(method, "/_control/" + path, None if body is None else json.dumps(body))

    def oracle(self, stream, how=""):
        query = urllib.parse.urlencode({"group": stream.group, "stream": stream.name})
        return self.control("GET", f"oracle?{query}{how}")


class Stream:
    """A stream, and what its follower was shown."""

    def __init__(self, group, name, big):
        self.group, self.name, self.big = group, name, big
        self.path = f"{group}/{name}.log"
        self.inode = None
        self.shown = bytearray()
        self.file = None
        # The daemon's life in which the file was opened last.
        self.life = 0
        self.made = 0


def plan(opts):
    faults = [
        {"call": call, "kind": kind, "rate": opts.faults, "ms": 20 if kind == "slow_body" else 0}
        for kind, calls in FAULTS.items()
        for call in calls
    ]
    return {
        "seed": opts.seed,
        "faults": faults,
        "empty_first": opts.faults,
        "empty_page": opts.faults,
        "partial_page": opts.faults,
        "hidden": {"batch": opts.hidden, "from_ms": 0, "for_ms": int(opts.hidden_for * 1000)},
        "missing": {"rate": opts.missing, "young_ms": int(opts.young * 1000)},
        "lag": {"first_put_ms": 3_000, "later_puts_ms": 60_000},
    }


def make_streams(count):
    """One big group, some of one stream, the others between: polls differ by how many streams a group has."""
    sizes = [count // 2] + [1] * min(5, count // 4)
    while sum(sizes) < count:
        sizes.append(min(19, count - sum(sizes)))
    streams = []
    for number, size in enumerate(sizes):
        streams += [Stream(f"group{number}", f"stream{i:03}", i % 10 == 0) for i in range(size)]
    return streams


class Writer(threading.Thread):
    """Puts batches at a steady rate."""

    def __init__(self, service, streams, opts):
        super().__init__(daemon=True)
        self.service, self.streams, self.opts = service, streams, opts
        self.stopping = threading.Event()
        self.batches = self.events = self.late = self.twice = 0
        self.failed = None

    def run(self):
        try:
            started = time.monotonic()
            while not self.stopping.is_set():
                self.put(random.choice(self.streams))
                due = started + self.batches / self.opts.puts
                self.stopping.wait(max(0.0, due - time.monotonic()))
        except Exception as error:
            self.failed = f"the writer failed: {error!r}"

    def put(self, stream):
        now = int(time.time() * 1000)
        events = []
        for _ in range(random.randint(20, 60) if stream.big else random.randint(1, 4)):
            late = random.randrange(int(self.opts.late_by * 1000)) if random.random() < self.opts.late else 0
            self.late += late > 0
            fill = "x" * random.randrange(600 if stream.big else 120)
            event = {"timestamp": now - late, "message": f"{stream.name} {stream.made:07} {fill}"}
            stream.made += 1
            events.append(event)
            if random.random() < 0.01:
                self.twice += 1
                events.append(event)
        events.sort(key=lambda event: event["timestamp"])
        self.service.call("PutLogEvents", logGroupName=stream.group, logStreamName=stream.name, logEvents=events)
        self.batches += 1
        self.events += len(events)


class Follower(threading.Thread):
    """Follows a stream through the mount, over restarts."""

    def __init__(self, mount, stream, daemon, failures):
        super().__init__(daemon=True)
        self.mount, self.stream, self.daemon_of, self.failures = mount, stream, daemon, failures
        self.stopping = threading.Event()
        self.errors = collections.Counter()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.stopping.wait(0.05 if self.step(self.stream) else 0.5)
        except Exception as error:
            self.failures.append(f"a follower failed: {error!r}")
        self.close(self.stream)

    def step(self, stream):
        life = self.daemon_of.life
        try:
            if stream.file is None:
                self.open(stream)
                stream.life = life
            data = os.pread(stream.file, 1 << 17, len(stream.shown))
        except OSError as error:
            self.close(stream)
            # Of a daemon that is about to end, or to be there, any error is right.
            if self.daemon_of.life == life and self.daemon_of.is_up:
                self.errors[os.strerror(error.errno)] += 1
            return False
        stream.shown += data
        return bool(data)

    def open(self, stream):
        stream.file = os.open(os.path.join(self.mount, stream.path), os.O_RDONLY)
        inode = os.fstat(stream.file).st_ino
        if stream.inode is None:
            stream.inode = inode
        if inode != stream.inode:
            self.failures.append(f"moved: {stream.path} has inode {inode}, it had {stream.inode}")
            stream.inode = inode
        # All that was shown before is still there, byte for byte.
        at = 0
        while at < len(stream.shown):
            data = os.pread(stream.file, 1 << 20, at)
            if not data:
                self.failures.append(f"lost: {stream.path} ends at {at}, and {len(stream.shown)} bytes were shown")
                break
            data = data[: len(stream.shown) - at]
            if data != stream.shown[at : at + len(data)]:
                end = at + len(data)
                self.failures.append(f"moved: {stream.path} differs from what was shown, between {at} and {end}")
                break
            at += len(data)

    def close(self, stream):
        if stream.file is not None:
            os.close(stream.file)
            stream.file = None


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Daemon:
    """The daemon, over its lives."""

    def __init__(self, opts, failures):
        self.opts, self.failures = opts, failures
        self.mount = os.path.join(opts.work, "mnt")
        self.log = os.path.join(opts.work, "daemon.log")
        self.life = 0
        self.is_up = False
        self.process = None
        self.started = 0.0
        # Of each life: (seconds, kB of memory, descriptors), and after how many seconds all followers were back.
        self.samples = []
        self.back = []

    def start(self):
        opts = self.opts
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": os.path.join(opts.work, "home"),
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        command = [opts.program, "--foreground", "--region", "us-east-1", "--endpoint-url", opts.url]
        command += ["--settle-after", opts.settle_after, "--late-window", opts.late_window]
        command += ["--cache-dir", os.path.join(opts.work, "cache"), self.mount]
        self.life += 1
        with open(self.log, "ab") as log:
            said = log.tell()
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        with open(os.path.join(opts.work, "daemon.pid"), "w") as file:
            file.write(str(self.process.pid))
        until = time.monotonic() + START
        while b": mounted version=" not in self.said(said):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the daemon didn't mount: {self.said(said).decode(errors='replace')}")
            time.sleep(0.01)
        self.started = time.monotonic()
        self.samples.append([])
        self.back.append(None)
        self.is_up = True

    def said(self, since=0):
        with open(self.log, "rb") as log:
            log.seek(since)
            return log.read()

    def stop(self, number):
        self.sample()
        self.is_up = False
        if self.process.poll() is not None:
            self.failures.append(f"life {self.life} ended by itself with {self.process.returncode}")
            return
        self.process.send_signal(number)
        try:
            status = self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.failures.append(f"life {self.life} didn't end within {STOP} s of {number.name}")
            self.process.kill()
            try:
                status = self.process.wait(STOP)
            except subprocess.TimeoutExpired:
                # Forced, an unmount ends every wait for an answer.
                subprocess.run(["umount", "-f", "-l", self.mount])
                raise RuntimeError(f"life {self.life} outlives SIGKILL, and the mount is frozen") from None
        if status != (0 if number == signal.SIGTERM else -signal.SIGKILL):
            self.failures.append(f"life {self.life} ended with {status} after {number.name}")

    def sample(self, streams=()):
        if streams and self.back[-1] is None and all(stream.life == self.life for stream in streams):
            self.back[-1] = time.monotonic() - self.started
        try:
            with open(f"/proc/{self.process.pid}/status") as file:
                memory = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
            descriptors = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except (OSError, StopIteration):
            return
        self.samples[-1].append((time.monotonic() - self.started, memory, descriptors))


def warm_up(daemon, streams):
    """Waits until every stream was opened once."""
    until = time.monotonic() + FIRST
    while daemon.back[-1] is None:
        if time.monotonic() > until:
            raise RuntimeError(f"not all streams could be opened in {FIRST} s, though the service had no bad day")
        time.sleep(0.5)
        daemon.sample(streams)


def run(daemon, writer, streams, seconds, restart_every, failures):
    """Lets time go by, samples, restarts."""
    numbers = [signal.SIGTERM, signal.SIGKILL]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        if writer.failed:
            raise RuntimeError(writer.failed)
        if daemon.process.poll() is not None:
            failures.append(f"life {daemon.life} ended by itself with {daemon.process.returncode}")
            daemon.start()
        daemon.sample(streams)
        left = end - time.monotonic()
        if restart_every and time.monotonic() - daemon.started >= restart_every and left > restart_every / 2:
            daemon.stop(numbers[(daemon.life - 1) % 2])
            daemon.start()


def growth(daemon, streams, failures):
    """Within a life: of its last part over its first. Between lives: of the last ones over the early ones."""
    print("life  seconds  followers back   MB first  last  most   descriptors first  last  most")
    peaks = []
    for number, samples in enumerate(daemon.samples, 1):
        # While followers come back, descriptors and memory rise as they must.
        warm_from = max(WARM, daemon.back[number - 1] or 0.0)
        warm = [sample for sample in samples if sample[0] >= warm_from] or samples[-1:]
        if not warm:
            continue
        first, last = warm[0], warm[-1]
        memory, descriptors = max(s[1] for s in samples), max(s[2] for s in samples)
        peaks.append((memory, descriptors))
        back = "never" if daemon.back[number - 1] is None else f"{daemon.back[number - 1]:.1f} s"
        print(
            f"{number:4} {last[0]:8.0f} {back:>15} {first[1] / 1024:10.1f} {last[1] / 1024:5.1f} {memory / 1024:5.1f}"
            f" {first[2]:19} {last[2]:5} {descriptors:5}"
        )
        if descriptors > len(streams) + 60:
            failures.append(f"grew: life {number}: {descriptors} descriptors for {len(streams)} files")
        if len(warm) < 60 or daemon.back[number - 1] is None:
            continue
        third = len(warm) // 3
        middle = lambda part, field: sorted(s[field] for s in part)[len(part) // 2]
        early, late = warm[:third], warm[-third:]
        if middle(late, 1) > middle(early, 1) * 1.15 + 8 * 1024:
            failures.append(f"grew: life {number}: memory {middle(early, 1)} kB, then {middle(late, 1)} kB")
        # Each stream may open its file once.
        if middle(late, 2) > middle(early, 2) + len(streams) // 10 + 10:
            failures.append(f"grew: life {number}: descriptors {middle(early, 2)}, then {middle(late, 2)}")
    third = len(peaks) // 3
    if third >= 2:
        for field, name, slack in [(0, "memory in kB", 16 * 1024), (1, "descriptors", 50)]:
            early, late = (max(p[field] for p in part) for part in (peaks[1 : 1 + third], peaks[-third:]))
            if late > early * 1.3 + slack:
                failures.append(f"grew: {name}: at most {early} in early lives, {late} in late ones")


def read_whole(path):
    """The whole file; an open may be refused while the service fails."""
    for attempt in range(20):
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            last = error
            time.sleep(0.5)
    raise last


def tell_event(service, stream, text, cache):
    """When an event was stamped and taken in, from the service's own record."""
    if stream not in cache:
        cache[stream] = json.loads(service.oracle(stream, "&format=events"))
    now = time.time() * 1000
    for event in cache[stream]:
        if event["message"].encode() == text:
            late = (event["ingestionTime"] - event["timestamp"]) / 1000
            return f"stamped {(now - event['timestamp']) / 1000:.0f} s ago, taken in {late:.1f} s after that"
    return "the service never had it"


def count(service, daemon, streams, failures):
    """Compares files with the service's events, and followers with files."""
    lost = doubled = total = size = behind = 0
    cache = {}
    for stream in streams:
        expected = collections.Counter(service.oracle(stream).splitlines())
        data = read_whole(os.path.join(daemon.mount, stream.path))
        found = collections.Counter(data.splitlines())
        total += expected.total()
        size += len(data)
        for difference, word in [(expected - found, "lost"), (found - expected, "doubled")]:
            for text, number in difference.items():
                told = tell_event(service, stream, text, cache)
                failures.append(f"{word}: {stream.path}: {text[:24].decode(errors='replace')!r} {number} times: {told}")
        lost += (expected - found).total()
        doubled += (found - expected).total()
        if bytes(stream.shown) != data:
            behind += 1
            if not data.startswith(bytes(stream.shown)):
                failures.append(f"moved: {stream.path}: the follower was shown other bytes than the file has")
            else:
                failures.append(f"behind: {stream.path}: the follower has {len(stream.shown)} of {len(data)} bytes")
    return total, size, lost, doubled, behind


def main():
    opts = options()
    # Leaves by the way of every failure, so that the mount is taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if opts.seed is None:
        opts.seed = random.randrange(1 << 32)
    random.seed(opts.seed)
    print(f"seed {opts.seed}", flush=True)
    failures = []
    service = Service(opts.url)
    streams = make_streams(opts.streams)
    for group in dict.fromkeys(stream.group for stream in streams):
        service.call("CreateLogGroup", logGroupName=group)
    for stream in streams:
        service.call("CreateLogStream", logGroupName=stream.group, logStreamName=stream.name)
    daemon = Daemon(opts, failures)
    writer = Writer(service, streams, opts)
    followers = [Follower(daemon.mount, stream, daemon, failures) for stream in streams]
    try:
        daemon.start()
        for thread in [writer, *followers]:
            thread.start()
        warm_up(daemon, streams)
        service.control("POST", "plan", plan(opts))
        run(daemon, writer, streams, opts.minutes * 60, opts.restart_every, failures)
        writer.stopping.set()
        writer.join()
        lives = daemon.life
        print(f"written: {writer.events} events in {writer.batches} batches, {writer.late} late, {writer.twice} twice")
        print(f"{lives} lives of the daemon; draining", flush=True)
        run(daemon, writer, streams, opts.drain, 0, failures)
        for follower in followers:
            follower.stopping.set()
        for follower in followers:
            follower.join()
        total, size, lost, doubled, behind = count(service, daemon, streams, failures)
        growth(daemon, streams, failures)
        calls = json.loads(service.control("GET", "calls"))
        daemon.stop(signal.SIGTERM)
    except (RuntimeError, OSError) as error:
        print(f"stopped: {error}")
        return report([*failures, "not run to the end"])
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.stop(signal.SIGTERM)
        subprocess.run(["fusermount3", "-u", "-z", daemon.mount], stderr=subprocess.DEVNULL)
    panics = daemon.said().count(b"panicked")
    if panics:
        failures.append(f"the daemon panicked {panics} times")
    errors = sum((follower.errors for follower in followers), collections.Counter())
    print(f"calls: {calls['by_call']}; answered with faults: {calls['errors']}")
    print(f"errors of opens and reads, tried again: {dict(errors)}")
    print(f"events: {total} accepted; {size} bytes in {len(streams)} files")
    print(f"{lost} lost, {doubled} doubled, {behind} followers differ")
    return report(failures)


def report(failures):
    for failure in failures[:50]:
        print(failure)
    if len(failures) > 50:
        print(f"and {len(failures) - 50} more")
    print("FAILED" if failures else "ok", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
