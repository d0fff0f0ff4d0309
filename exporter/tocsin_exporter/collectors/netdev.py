"""Traffic of network devices: /proc/net/dev."""

from collections.abc import Iterator

from tocsin_exporter.catalogue import NETWORK
from tocsin_exporter.catalogue.network import RECEIVE, TRANSMIT
from tocsin_exporter.collectors.reading import Reading, text
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.snapshot import Sample

_FAMILIES = (
    *(NETWORK[f"node_network_receive_{column}_total"] for column in RECEIVE),
    *(NETWORK[f"node_network_transmit_{column}_total"] for column in TRANSMIT),
)


def netdev(site: Site) -> Reading:
    path = str(site.proc / "net/dev")
    return Reading("netdev", lambda: parse(text(path)))


def parse(dev: str) -> Iterator[Sample]:
    """Two lines of headings, then `eth0: <8 columns received> <8 columns transmitted>`."""
    for line in dev.splitlines()[2:]:
        device, _, columns = line.rpartition(":")  # an alias has a colon of its own
        of_device = (("device", device.strip()),)
        for family, value in zip(_FAMILIES, columns.split(), strict=True):
            yield Sample(family, float(value), of_device)
