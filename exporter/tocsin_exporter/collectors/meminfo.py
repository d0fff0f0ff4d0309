"""Memory: every line of /proc/meminfo.

psutil is not asked: its `cached` contains SReclaimable and would be wrong under this name.
"""

from collections.abc import Iterator
from functools import lru_cache

from tocsin_exporter.catalogue.host import MEMORY
from tocsin_exporter.collectors.reading import Reading, text
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Family, Sample


def meminfo(site: Site) -> Reading:
    path = str(site.proc / "meminfo")
    return Reading("meminfo", lambda: parse(text(path)))


def parse(meminfo: str) -> Iterator[Sample]:
    """`Active(anon):   1568 kB` is node_memory_Active_anon_bytes; without a unit it is a count."""
    for line in meminfo.splitlines():
        key, value, *unit = line.split()
        yield Sample(_family(key, bool(unit)), float(value) * (1024 if unit else 1))


@lru_cache(maxsize=512)
def _family(key: str, in_bytes: bool) -> Family:
    field = key.removesuffix(":").replace("(", "_").replace(")", "")
    return MEMORY.family(field + "_bytes", unit="bytes") if in_bytes else MEMORY.family(field)
