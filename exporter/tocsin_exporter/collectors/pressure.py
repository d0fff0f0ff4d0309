"""Pressure stall information: /proc/pressure/*."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from tocsin_exporter.catalogue import HOST
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, LineParser, count, line_parser, text
from tocsin_exporter.snapshot import Sample

# "some" is waiting, "full" is stalled. The CPU has no useful "full", IRQ no "some".
_FAMILIES = {
    ("cpu", "some"): HOST["node_pressure_cpu_waiting_seconds_total"],
    ("io", "some"): HOST["node_pressure_io_waiting_seconds_total"],
    ("io", "full"): HOST["node_pressure_io_stalled_seconds_total"],
    ("memory", "some"): HOST["node_pressure_memory_waiting_seconds_total"],
    ("memory", "full"): HOST["node_pressure_memory_stalled_seconds_total"],
    ("irq", "full"): HOST["node_pressure_irq_stalled_seconds_total"],
}
_KINDS = ("some", "full")
_RESOURCES = ("cpu", "io", "memory", "irq")


def pressure(host: Host) -> FileCollector:
    files = {
        str(host.proc / "pressure" / resource): line_parser(parse, resource)
        for resource in _RESOURCES
    }
    return FileCollector("pressure", partial(_read, files))


def _read(
    files: Mapping[str, Callable[[str], Iterable[Sample]]], lines: LineParser
) -> list[Sample]:
    samples: list[Sample] = []
    read = False
    for path, read_line in files.items():
        try:
            content = text(path)
        except OSError:  # this kernel lacks it, or was started with psi=0
            continue
        read = True
        samples += lines.parse(content, read_line)
    if not read:
        raise Unavailable("pressure stall information is off: start the kernel with psi=1")
    return samples


def parse(resource: str, line: str) -> Iterator[Sample]:
    """`some avg10=0.00 avg60=0.00 avg300=0.00 total=12345`, in microseconds."""
    kind, _, rest = line.partition(" ")
    if (family := _FAMILIES.get((resource, kind))) is not None:
        fields = {name: value for name, _, value in (word.partition("=") for word in rest.split())}
        yield Sample(family, count(fields["total"]) / 1e6)
    elif kind not in _KINDS:
        raise ValueError(f"{kind} is no kind of pressure")
