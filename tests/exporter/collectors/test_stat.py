from support.site import only, recorded_site, table
from tocsin_exporter.collectors.stat import stat


async def test_totals_come_first_on_their_lines() -> None:
    rows = table(await stat(recorded_site()).collect())
    assert only(rows, "node_intr_total") == 246267
    assert only(rows, "node_context_switches_total") == 484362
    assert only(rows, "node_forks_total") == 8042
    assert only(rows, "node_boot_time_seconds") == 1795254402
    assert only(rows, "node_procs_running") == 3
    assert only(rows, "node_procs_blocked") == 1
    assert len(rows) == 6
