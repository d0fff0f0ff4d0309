"""Interrupts by CPU and device, and the controllers of cgroups v1: tables of /proc."""

from collections.abc import Iterator

from tocsin_exporter.catalogue import KERNEL_TABLES
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, count, text
from tocsin_exporter.snapshot import Sample, labels

_SERVICED = KERNEL_TABLES["node_interrupts_total"]
_CGROUPS = KERNEL_TABLES["node_cgroups_cgroups"]
_ENABLED = KERNEL_TABLES["node_cgroups_enabled"]


def interrupts(host: Host) -> AttributeCollector:
    path = host.proc / "interrupts"
    return AttributeCollector("interrupts", path, lambda lines: _interrupts(text(path), lines))


def _interrupts(content: str, lines: LineParser) -> Iterator[Sample]:
    heading, *rows = lines.split(content)
    cpus = len(heading.split())
    for row in rows:
        if len(row.split()) >= cpus + 2:  # ERR and MIS have one number for all
            yield from lines.take(row, lambda line: interrupt(line, cpus))


def interrupt(line: str, cpus: int) -> Iterator[Sample]:
    """`9: 398553 2320 IR-IO-APIC-fasteoi acpi`; one without a number has words for all."""
    name, *rest = line.split()
    name, words = name.rstrip(":"), rest[cpus:]
    info, devices = (words[0], words[1:]) if name.isdecimal() else (" ".join(words), [])
    for cpu, number in enumerate(rest[:cpus]):
        of = labels(cpu=str(cpu), type=name, info=info, devices=" ".join(devices))
        yield Sample(_SERVICED, count(number), of)


def cgroups(host: Host) -> AttributeCollector:
    path = host.proc / "cgroups"
    return AttributeCollector("cgroups", path, lambda lines: lines.parse(text(path), controller))


def controller(line: str) -> Iterator[Sample]:
    """`cpuset 5 47 1`: name, hierarchy, number, enabled; nothing for the headings."""
    if line.startswith("#"):
        return
    name, _hierarchy, number, enabled = line.split()[:4]
    of = labels(subsys_name=name)
    yield Sample(_CGROUPS, count(number), of)
    yield Sample(_ENABLED, count(enabled), of)
