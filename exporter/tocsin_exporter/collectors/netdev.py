"""Traffic of network devices: /proc/net/dev."""

from collections.abc import Callable, Iterator

from tocsin_exporter.catalogue import NETWORK
from tocsin_exporter.catalogue.network import RECEIVE, TRANSMIT
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import FileCollector, count, text
from tocsin_exporter.snapshot import Sample

_FAMILIES = (
    *(NETWORK[f"node_network_receive_{column}_total"] for column in RECEIVE),
    *(NETWORK[f"node_network_transmit_{column}_total"] for column in TRANSMIT),
)
_BARS = 2  # in a line of headings


def netdev(host: Host) -> FileCollector:
    path = str(host.proc / "net/dev")
    wanted = host.settings.wanted("netdev.device")

    def read(line: str) -> Iterator[Sample]:
        return parse(line, wanted)

    return FileCollector("netdev", lambda lines: lines.parse(text(path), read), if_nothing=None)


def parse(line: str, wanted: Callable[[str], bool] = bool) -> Iterator[Sample]:
    """Headings, which have a `|`, then `eth0: <8 columns received> <8 columns transmitted>`."""
    device, colon, columns = line.rpartition(":")  # an alias has a colon of its own
    if not colon and line.count("|") == _BARS:
        return
    if not device.strip(" "):
        raise ValueError("a line without a device")
    if not wanted(device.strip(" ")):
        return
    of_device = (("device", device.strip(" ")),)
    for family, value in zip(_FAMILIES, columns.split()[: len(_FAMILIES)], strict=True):
        yield Sample(family, count(value), of_device)
