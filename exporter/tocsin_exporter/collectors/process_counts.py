"""How many processes and threads there are, and in which states: node_exporter's `processes`.

It looks at every thread of the machine, so it is off unless switched on.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tocsin_exporter.catalogue import KERNEL_TABLES
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import count, text
from tocsin_exporter.snapshot import Sample, labels

_FAMILY = {
    name: KERNEL_TABLES[f"node_processes_{name}"]
    for name in ("threads", "max_threads", "state", "threads_state", "pids", "max_processes")
}
_STATE, _THREADS = 0, 17  # fields of `stat` after the name, which may have anything in it
_GONE = (FileNotFoundError, ProcessLookupError)  # it ended while we looked


def process_counts(host: Host) -> AttributeCollector:
    return AttributeCollector("processes", host.proc, lambda _: _counts(host.proc))


def _counts(proc: Path) -> Iterator[Sample]:
    states: Counter[str] = Counter()
    thread_states: Counter[str] = Counter()
    threads = 0
    for pid in _numbered(proc):
        with suppress(*_GONE):
            state, number = status(text(proc / pid / "stat"))
            states[state] += 1
            threads += number
            thread_states.update(_thread_states(proc / pid / "task", pid, state))
    limits = proc / "sys/kernel"
    yield Sample(_FAMILY["threads"], threads)
    yield Sample(_FAMILY["max_threads"], count(text(limits / "threads-max").strip()))
    for state, number in states.items():
        yield Sample(_FAMILY["state"], number, labels(state=state))
    for state, number in thread_states.items():
        yield Sample(_FAMILY["threads_state"], number, labels(thread_state=state))
    yield Sample(_FAMILY["pids"], states.total())
    yield Sample(_FAMILY["max_processes"], count(text(limits / "pid_max").strip()))


def _thread_states(tasks: Path, pid: str, state: str) -> Iterator[str]:
    """Those of each thread; of the first, that of the process."""
    with suppress(*_GONE):
        for thread in _numbered(tasks):
            if thread == pid:
                yield state
                continue
            with suppress(*_GONE):
                yield status(text(tasks / thread / "stat"))[0]


def _numbered(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.isdecimal()]


def status(content: str) -> tuple[str, int]:
    """The state and the number of threads of one `stat`. Raises ValueError or LookupError."""
    fields = content[content.rindex(")") + 1 :].split()
    return fields[_STATE], int(fields[_THREADS])
