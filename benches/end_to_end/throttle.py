"""A big download while another client of the account takes half of both quotas for a minute, under three limiters."""

import http.client
import json
import subprocess
import threading
import time
import urllib.parse

from .common import MB, Row, at_most, quotas

MESSAGE = 200
GET, FILTER = 25, 10
LIMITERS = {
    "bucket": {"model": "bucket"},
    "sliding second": {"model": "sliding_second"},
    "one call in a hundred at random": {"model": "random", "random": 0.01},
}
CALLS = ("GetLogEvents", "FilterLogEvents")
# The rate is back when this part of what it was before is reached, over so many seconds.
BACK, OVER = 0.9, 2


def run(bench):
    rows = []
    for name, limiter in LIMITERS.items():
        rows += case(bench, name, limiter)
    return rows


def case(bench, name, limiter):
    before, taken, after = (5, 10, 15) if bench.quick else (10, 60, 20)
    # As much as both calls bring in all that time, and more.
    events = int((before + taken + after) * (GET + FILTER) * 4640)
    now = int(time.time() * 1000)
    with bench.fake() as fake:
        fake.synth("app", "big", count=events, line_bytes=MESSAGE, first=now - 50 * 3_600_000, end=now - 3_600_000)
        fake.synth("other", "s", count=10, line_bytes=MESSAGE, first=now - 7_200_000, end=now - 3_600_000)
        fake.plan({"latency_ms": 40, **quotas(GET, FILTER, **limiter)})
        with bench.mount(fake.url) as mount:
            subprocess.run(["ls", mount.path / "app"], stdout=subprocess.DEVNULL, check=True)
            marks = []
            with bench.process(["cat", mount.path / "app/big.log"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as cat:
                read = Drain(cat.stdout)
                time.sleep(before)
                marks.append(time.time() * 1000)
                take(fake.url, taken)
                marks.append(time.time() * 1000)
                time.sleep(after)
                # What went wrong by now; it is ended here, far from its own end.
                failed = cat.poll() is not None and cat.returncode != 0
                log = fake.calls(log=True)["log"]
    own = [line for line in log if line["call"] in CALLS and line.get("group") == "app"]
    throttled = sum(line.get("error") == "ThrottlingException" for line in own)
    share = throttled / len(own)
    good = [line["at"] for line in own if not line.get("error")]
    usual = rate(good, marks[0] - OVER * 1000 - 2000, marks[0])
    squeezed = rate(good, marks[0] + 2000, marks[1])
    seconds = next((s / 10 for s in range(after * 10) if rate(good, marks[1] + s * 100, marks[1] + s * 100 + OVER * 1000) >= BACK * usual), None)
    title = f"half the quota taken for {taken} s, {name}"
    rows = [
        Row(f"{title}: throttled calls", 100 * share, "%", f"{len(own)} calls", **at_most(100 * share, 5)),
        Row("good calls a second before and meanwhile", usual, "/s", f"{squeezed:.1f}/s meanwhile, of {GET + FILTER}"),
        Row("rate back after", "never" if seconds is None else seconds, "s", goal="≤ 10", met=seconds is not None and seconds <= 10),
        Row("errors to the reader", int(failed), "", f"{read.bytes / MB:.0f} MB read", **at_most(int(failed), 0)),
    ]
    return rows


class Drain(threading.Thread):
    """Reads a pipe to its end and counts."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe, self.bytes = pipe, 0
        self.start()

    def run(self):
        while piece := self.pipe.read1(1 << 20):
            self.bytes += len(piece)


def rate(times, start, end):
    """Calls a second that came between two moments in ms."""
    return sum(start <= at < end for at in times) * 1000 / (end - start)


def take(url, seconds):
    """Another client: half of both quotas, evenly, whether its calls are refused or not."""
    threads = [
        threading.Thread(target=ask, args=(url, "GetLogEvents", GET / 2, seconds)),
        threading.Thread(target=ask, args=(url, "FilterLogEvents", FILTER / 2, seconds)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ask(url, call, a_second, seconds):
    connection = http.client.HTTPConnection(urllib.parse.urlparse(url).netloc)
    headers = {"x-amz-target": f"Logs_20140328.{call}", "content-type": "application/x-amz-json-1.1"}
    request = {"logGroupName": "other", "limit": 1}
    if call == "GetLogEvents":
        request["logStreamName"] = "s"
    began = time.monotonic()
    for number in range(int(a_second * seconds)):
        time.sleep(max(0, began + number / a_second - time.monotonic()))
        connection.request("POST", "/", json.dumps(request), headers)
        connection.getresponse().read()
    time.sleep(max(0, began + seconds - time.monotonic()))
