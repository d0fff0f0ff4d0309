from pathlib import Path

import pytest

from support.site import only, recorded_site, table
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.inline import FileCollector
from tocsin_exporter.collectors.netstat import netstat


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
async def test_pairs_are_found_again_after_an_odd_line(
    said: str, skipped: int, tmp_path: Path
) -> None:
    collector = _of(tmp_path, snmp=said)
    for times in (1, 2):
        assert table(await collector.collect()) == {("node_netstat_Tcp_InSegs", ()): 3}
        assert collector.lines.skipped["malformed"] == skipped * times


async def test_a_pair_that_says_something_else_is_read_anew(tmp_path: Path) -> None:
    pair = "Tcp: InSegs OutSegs\nTcp: 3 {}\n"
    collector = _of(tmp_path, snmp=pair.format(4), netstat=pair.format(4).replace("Tcp", "Udp"))
    assert only(table(await collector.collect()), "node_netstat_Tcp_OutSegs") == 4
    (tmp_path / "proc/net/snmp").write_text(pair.format(5))
    assert only(table(await collector.collect()), "node_netstat_Tcp_OutSegs") == 5
    (tmp_path / "proc/net/snmp").write_text(pair.replace("In", "").replace("Out", "In").format(6))
    assert table(await collector.collect()) == {("node_netstat_Tcp_InSegs", ()): 6}, "other columns"


def _of(tmp_path: Path, **files: str) -> FileCollector:
    net = tmp_path / "proc/net"
    net.mkdir(parents=True)
    for name in ("netstat", "snmp"):
        (net / name).write_text(files.get(name, ""))
    return netstat(recorded_site(tmp_path))


async def test_other_fields_are_chosen_by_a_pattern() -> None:
    settings = CollectorSettings({"netstat.fields": "^(Tcp_CurrEstab|Ip6_InOctets)$"})
    rows = table(await netstat(recorded_site(settings=settings)).collect())
    assert {name for name, _ in rows} == {"node_netstat_Tcp_CurrEstab", "node_netstat_Ip6_InOctets"}
