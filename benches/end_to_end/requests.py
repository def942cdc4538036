"""How often the kernel asked the daemon, and caches of many streams."""

import contextlib
import json
import subprocess
import time

# How long a text of `.cwlogs/` stays the same, in seconds, with a margin.
AGREED = 1.1


class Requests:
    """Counts the kernel's requests from its making on, those for the counting itself left out."""

    def __init__(self, mountpoint):
        self.path = mountpoint / ".cwlogs/status.json"
        # Names and attributes of the file itself are known after a first look; what a look costs then is the same each time.
        self.look()
        first, second = self.look(), self.look()
        self.cost = {name: second[name] - first[name] for name in second}
        self.start = second

    def look(self):
        time.sleep(AGREED)
        return json.loads(self.path.read_text())["requests"]

    def since(self):
        now = self.look()
        return {name: now[name] - self.start[name] - self.cost[name] for name in now}


@contextlib.contextmanager
def cached(bench, groups, streams):
    """(test server, cache) of groups whose streams were all listed and count as read: one line each."""
    hour = int(time.time() * 1000) - 3_600_000
    stream = {"name": "stream-{}", "count": streams, "events": 1, "first": hour - 2 * 3_600_000}
    spec = {"groups": [{"name": "/bench/group-{}", "count": groups, "created": hour - 86_400_000, "streams": [stream]}]}
    with bench.folder("cache") as folder, bench.fake(populate=spec) as fake:
        cache = folder / "cache"
        # A million streams at the service's 25 pages a second would take a quarter of an hour.
        with bench.mount(fake.url, "--rate", "describe-log-streams=1000", cache=cache) as mount:
            for group in mount.path.iterdir():
                subprocess.run(["ls", "-f", group], stdout=subprocess.DEVNULL, check=True)
        fill = bench.program.parent / "examples/fill-cache"
        subprocess.run([str(fill), str(cache)], stdout=subprocess.DEVNULL, check=True)
        yield fake, cache
