"""What the test server can serve to a client that does nothing with it: the other scenarios must stay well below."""

import http.client
import json
import threading
import time
import urllib.parse

from .common import MB, median_row, pages

EVENTS, BYTES = 500_000, 200
CONNECTIONS = 2


def run(bench):
    events = EVENTS // 5 if bench.quick else EVENTS
    now = int(time.time() * 1000)
    per_page = events // pages(events, BYTES)
    rates = []
    with bench.fake() as fake:
        fake.synth("app", "big", count=events, line_bytes=BYTES, first=now - 7_200_000, end=now - 3_600_000)
        for _ in range(bench.runs):
            began = time.monotonic()
            threads = [threading.Thread(target=read, args=(fake.url,)) for _ in range(CONNECTIONS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rates.append(CONNECTIONS * events / (time.monotonic() - began))
    note = {"beside": f"{CONNECTIONS} connections, no quota, no latency, nothing parsed"}
    return [
        median_row("the test server's ceiling, pages", [rate / per_page for rate in rates], "pages/s", **note),
        median_row("the test server's ceiling, log text", [rate * BYTES / MB for rate in rates], "MB/s", **note),
    ]


def read(url):
    """All pages of the stream, over one connection."""
    connection = http.client.HTTPConnection(urllib.parse.urlparse(url).netloc)
    headers = {"x-amz-target": "Logs_20140328.GetLogEvents", "content-type": "application/x-amz-json-1.1"}
    token = None
    while True:
        request = {"logGroupName": "app", "logStreamName": "big", "startFromHead": True}
        connection.request("POST", "/", json.dumps(request | ({"nextToken": token} if token else {})), headers)
        body = connection.getresponse().read()
        end = body[-300:].partition(b'"nextForwardToken":"')[2].partition(b'"')[0].decode()
        if end == token:
            return connection.close()
        token = end
