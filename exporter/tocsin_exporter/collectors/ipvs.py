"""IPVS, the kernel's load balancer: its packets, and the servers behind each address."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from tocsin_exporter.catalogue import NETWORK
from tocsin_exporter.collectors.attributes import AttributeCollector
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, count, text
from tocsin_exporter.snapshot import Labels, Sample, labels

_TOTALS = tuple(
    NETWORK[f"node_ipvs_{name}_total"]
    for name in (
        *("connections", "incoming_packets", "outgoing_packets"),
        *("incoming_bytes", "outgoing_bytes"),
    )
)
_BACKEND = tuple(
    NETWORK[f"node_ipvs_backend_{name}"]
    for name in ("weight", "connections_active", "connections_inactive")
)
LABELS = ("local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark")
_VERSION_4 = re.compile(r"([0-9A-Fa-f]{8}):([0-9A-Fa-f]{4})")
_VERSION_6 = re.compile(r"\[([0-9a-fA-F:]+)\]:([0-9A-Fa-f]{4})")
_NUMBERS_AT = 2  # lines of ip_vs_stats before the totals


@dataclass(frozen=True, slots=True)
class _Service:
    """An address (or a mark of the firewall) that connections come in by."""

    proto: str = ""
    address: str = ""
    port: str = "0"
    mark: str = ""


def ipvs(host: Host) -> AttributeCollector:
    net = host.proc / "net"
    chosen = host.settings.ipvs_labels
    return AttributeCollector("ipvs", net / "ip_vs_stats", partial(_ipvs, net, chosen))


def _ipvs(net: Path, chosen: tuple[str, ...], lines: LineParser) -> Iterator[Sample]:
    totals = text(net / "ip_vs_stats").split("\n")[_NUMBERS_AT]
    for family, word in zip(_TOTALS, totals.split(), strict=True):
        yield Sample(family, int(word, 16))
    sums: dict[Labels, list[float]] = defaultdict(lambda: [0.0] * len(_BACKEND))
    for named, numbers in backends(text(net / "ip_vs"), lines):
        of = labels(**{name: value for name, value in named.items() if name in chosen})
        sums[of] = [a + b for a, b in zip(sums[of], numbers, strict=True)]
    for of, values in sums.items():
        for family, value in zip(_BACKEND, values, strict=True):
            yield Sample(family, value, of)


def backends(
    content: str, lines: LineParser
) -> Iterator[tuple[dict[str, str], tuple[float, float, float]]]:
    """Each server with its labels, and its weight, active and inactive connections."""
    service = _Service()
    for line in content.split("\n")[3:]:
        words = line.split()
        if not words:
            continue
        if words[0] == "->":
            yield from lines.take(line, partial(_backend, service))
        else:
            service = next(iter(lines.take(line, _service)), _Service())


def _service(line: str) -> Iterator[_Service]:
    proto, where, *_ = line.split()
    yield _Service(proto, mark=where) if proto == "FWM" else _Service(proto, *address_port(where))


def _backend(
    service: _Service, line: str
) -> Iterator[tuple[dict[str, str], tuple[float, float, float]]]:
    _arrow, remote, _forward, weight, active, inactive = line.split()[:6]
    address, port = address_port(remote)
    named = (service.address, service.port, address, port, service.proto, service.mark)
    yield (
        dict(zip(LABELS, named, strict=True)),
        (count(weight), count(active), count(inactive)),
    )


def address_port(said: str) -> tuple[str, str]:
    """`C0A80016:0CEA` is 192.168.0.22 port 3306; version 6 has brackets. Raises ValueError."""
    if match := _VERSION_4.fullmatch(said):
        return str(ip_address(int(match[1], 16))), str(int(match[2], 16))
    if match := _VERSION_6.fullmatch(said):
        return str(ip_address(match[1])), str(int(match[2], 16))
    raise ValueError(f"{said!r} is no address and port")
