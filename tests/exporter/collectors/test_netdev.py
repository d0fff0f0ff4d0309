import pytest

from support.site import only, recorded_site, table
from tocsin_exporter.collectors.netdev import netdev, parse


async def test_the_columns_in_the_kernels_order() -> None:
    rows = table(await netdev(recorded_site()).collect())
    received = ("errs", "drop", "fifo", "frame", "compressed", "multicast")
    sent = ("errs", "drop", "fifo", "colls", "carrier", "compressed")
    read = [only(rows, f"node_network_receive_{c}_total", device="eth0") for c in received]
    written = [only(rows, f"node_network_transmit_{c}_total", device="eth0") for c in sent]
    assert (read, written) == ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12])
    assert only(rows, "node_network_receive_bytes_total", device="eth0") == 277367057
    assert only(rows, "node_network_transmit_packets_total", device="lo") == 64


def test_a_line_with_a_column_missing_is_an_error() -> None:
    with pytest.raises(ValueError):
        list(parse("eth0: 1 2 3"))
