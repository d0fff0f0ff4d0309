import pytest

from support.site import only, recorded_site, table
from tocsin_exporter.collectors.netstat import netstat, parse


async def test_the_selected_fields_of_three_files() -> None:
    samples = await netstat(recorded_site()).collect()
    rows = table(samples)
    assert only(rows, "node_netstat_TcpExt_ListenDrops") == 6
    assert only(rows, "node_netstat_IpExt_OutOctets") == 397278
    assert only(rows, "node_netstat_Tcp_CurrEstab") == 12
    assert only(rows, "node_netstat_Tcp_RetransSegs") == 5
    assert only(rows, "node_netstat_Ip6_InOctets") == 77
    assert only(rows, "node_netstat_UdpLite6_InErrors") == 1
    assert ("node_netstat_TcpExt_EmbryonicRsts", ()) not in rows
    assert {sample.family.type for sample in samples} == {"untyped"}
    assert samples[0].family.help == "Statistic TcpExtSyncookiesSent."


def test_a_pair_of_lines_of_two_protocols_is_an_error() -> None:
    with pytest.raises(ValueError, match="Udp: follows Tcp:"):
        list(parse("Tcp: InSegs\nUdp: 3\n"))
