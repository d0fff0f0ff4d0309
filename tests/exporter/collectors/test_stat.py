from support.site import RECORDED, only, recorded_site, table
from tocsin_exporter.collector_settings import CollectorSettings
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


async def test_soft_interrupts_are_counted_by_vector_when_asked_for() -> None:
    settings = CollectorSettings(switches=frozenset({"stat.softirq"}))
    rows = table(await stat(recorded_site(settings=settings)).collect())
    vectors = {dict(labels)["vector"]: v for (name, labels), v in rows.items() if labels}
    softirq = (RECORDED / "proc/stat").read_text().split("softirq ")[1].split()
    assert [*vectors.values()] == [float(word) for word in softirq[1:11]]
    assert [*vectors][:3] == ["hi", "timer", "net_tx"]
