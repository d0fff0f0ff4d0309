"""Kernel parameters that people name: files below /proc/sys."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tocsin_exporter.catalogue import KERNEL_TABLES
from tocsin_exporter.catalogue.kernel_tables import SYSCTL
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import number, text
from tocsin_exporter.snapshot import Family, Sample, labels

_INFO = KERNEL_TABLES["node_sysctl_info"]
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(frozen=True, slots=True)
class Sysctl:
    """`fs.file-nr`, or with names for its values `fs.file-nr:total,current,max`."""

    name: str
    keys: tuple[str, ...] = ()

    @classmethod
    def parse(cls, given: str) -> "Sysctl":
        name, colon, keys = given.partition(":")
        return cls(name, tuple(keys.split(",")) if colon else ())

    def values(self, proc: Path) -> Sequence[str]:
        """Raises CollectorError where there are none, or not as many as names for them."""
        values = text(proc / "sys" / self.name.replace(".", "/")).split()
        if not values or (self.keys and len(self.keys) != len(values)):
            raise CollectorError(f"sysctl {self.name} has {len(values)} values")
        return values

    def family(self, key: str = "", said: str = "") -> Family:
        suffix = f"_{key}" if key else ""
        return SYSCTL.family(_NOT_IN_A_NAME.sub("_", self.name) + suffix, self.name + said)


def sysctl(host: Host) -> AttributeCollector:
    lists = host.settings.lists
    counted = [Sysctl.parse(given) for given in lists.get("sysctl.include", ())]
    named = [Sysctl.parse(given) for given in lists.get("sysctl.include-info", ())]

    def read() -> Iterator[Sample]:
        if not (counted or named):
            raise Unavailable("no parameter is named by --collector.sysctl.include")
        for each in counted:
            yield from numbers(each, each.values(host.proc))
        for each in named:
            for place, value in enumerate(each.values(host.proc)):
                yield Sample(_INFO, 1, labels(name=each.name, value=value, index=str(place)))

    return AttributeCollector("sysctl", host.proc / "sys", lambda _: read())


def numbers(sysctl: Sysctl, values: Sequence[str]) -> Iterator[Sample]:
    """One value alone, several by the names they were given, or else by their place."""
    for place, value in enumerate(values):
        if sysctl.keys:
            family = sysctl.family(sysctl.keys[place], f", field {place}")
            yield Sample(family, number(value))
        elif len(values) == 1:
            yield Sample(sysctl.family(), number(value))
        else:
            yield Sample(sysctl.family(), number(value), labels(index=str(place)))
