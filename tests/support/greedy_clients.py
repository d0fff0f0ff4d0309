"""Clients that ask the agent for as much as it allows, again and again, in a process of their own.

Run as a program: `greedy_clients.py URL`. Each line that it writes is an answer's status.
"""

import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from types import TracebackType

EVERYTHING = '{__name__=~".+"}'
POINTS = 8_000  # of 1,250 series are the samples that a query may read; an agent has 940 of its own
# Each costs whole seconds: numbers as texts, an order for each step, a series for each value, and
# label sets.
QUERIES = (
    EVERYTHING,
    f"topk(100, {EVERYTHING})",
    'count_values("v", {__name__=~"node_cpu.*|tocsin.*"} * time())',
    f'sum by (x) (label_replace({EVERYTHING}, "x", "$1", "__name__", "(.*)_.*"))',
)


def ask_for_ever(url: str, query: str) -> None:
    while True:
        now = time.time()  # of the five minutes from now on every point has the last values
        times = {"start": now, "end": now + POINTS * 0.02, "step": 0.02}
        asked = urllib.parse.urlencode({"query": query, **times})
        try:
            with urllib.request.urlopen(f"{url}/api/v1/query_range?{asked}", timeout=60) as answer:
                status, size = answer.status, 0
                while block := answer.read(1 << 20):
                    size += len(block)
        except urllib.error.HTTPError as error:
            status, size = error.code, 0
        except OSError:
            status, size = 0, 0
        print(f"{status} {size} {query}", flush=True)


class GreedyClients:
    """One client for each of QUERIES; `answers()` counts by status."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._said = tempfile.NamedTemporaryFile()  # which goes with this object

    def __enter__(self) -> "GreedyClients":
        command = [sys.executable, __file__, self._url]
        self._process = subprocess.Popen(command, stdout=self._said, stderr=subprocess.DEVNULL)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def answers(self) -> Counter[str]:
        said = Path(self._said.name).read_text()
        return Counter(line.split(" ")[0] for line in said.splitlines())


if __name__ == "__main__":
    for one in QUERIES:
        threading.Thread(target=ask_for_ever, args=(sys.argv[1], one)).start()
