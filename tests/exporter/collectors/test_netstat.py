import pytest

from support.site import only, recorded_site, table
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.inline import LineParser
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


@pytest.mark.parametrize(
    ("said", "skipped"),
    [
        ("Ip: Forwarding\nTcp: InSegs\nTcp: 3\n", 1),  # a half that is missing
        ("Udp: 3\nTcp: InSegs\nTcp: 3\n", 1),
        ("Tcp: InSegs\n\nTcp: 3\n", 0),  # a blank line between the halves
        ("Udp: InErrors NoPorts\nUdp: 3\nTcp: InSegs\nTcp: 3\n", 1),  # a number is missing
        ("Tcp: InSegs\nTcp: 3\nUdp: InErrors\nUd", 2),  # cut off
    ],
)
def test_pairs_are_found_again_after_an_odd_line(said: str, skipped: int) -> None:
    lines = LineParser("netstat")
    assert table(parse(said, lines)) == {("node_netstat_Tcp_InSegs", ()): 3}
    assert lines.skipped["malformed"] == skipped


async def test_other_fields_are_chosen_by_a_pattern() -> None:
    settings = CollectorSettings({"netstat.fields": "^(Tcp_CurrEstab|Ip6_InOctets)$"})
    rows = table(await netstat(recorded_site(settings=settings)).collect())
    assert {name for name, _ in rows} == {"node_netstat_Tcp_CurrEstab", "node_netstat_Ip6_InOctets"}
