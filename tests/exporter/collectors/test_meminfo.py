from support.site import only, recorded_site, table
from tocsin_exporter.collectors.meminfo import meminfo


async def test_kilobytes_become_bytes_and_counts_stay_counts() -> None:
    rows = table(await meminfo(recorded_site()).collect())
    assert only(rows, "node_memory_MemTotal_bytes") == 24684096 * 1024
    assert only(rows, "node_memory_Active_anon_bytes") == 1568 * 1024
    assert only(rows, "node_memory_HugePages_Total") == 4
    assert len(rows) == 7
