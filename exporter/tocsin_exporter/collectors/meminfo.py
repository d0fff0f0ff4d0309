"""Memory: every line of /proc/meminfo.

psutil is not asked: its `cached` contains SReclaimable and would be wrong under this name.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from tocsin_exporter.catalogue.host import MEMORY
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, number, text
from tocsin_exporter.snapshot import Family, Sample

_FIELD = re.compile(r"[A-Za-z0-9_]+(\([a-z_]+\))?[A-Za-z0-9_]*:")


def meminfo(host: Host) -> FileCollector:
    path = str(host.proc / "meminfo")
    return FileCollector("meminfo", lambda lines: lines.parse(text(path), parse))


def parse(line: str) -> Iterator[Sample]:
    """`Active(anon):   1568 kB` is node_memory_Active_anon_bytes; without a unit it is a count."""
    key, value, *more = line.split()
    in_bytes = more[:1] == ["kB"]
    if not _FIELD.fullmatch(key) or (more and not in_bytes and more[0].isalpha()):
        raise ValueError(f"{key} is no field of meminfo")
    yield Sample(_family(key, in_bytes), number(value) * (1024 if in_bytes else 1))


@lru_cache(maxsize=512)
def _family(key: str, in_bytes: bool) -> Family:
    field = key.removesuffix(":").replace("(", "_").replace(")", "")
    return MEMORY.family(field + "_bytes", unit="bytes") if in_bytes else MEMORY.family(field)
