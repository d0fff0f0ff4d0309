from support.site import only, recorded_site, table
from tocsin_exporter.collectors.cpu import cpu, parse


async def test_seconds_by_cpu_and_mode_without_the_sum_over_cpus() -> None:
    rows = table(await cpu(recorded_site()).collect())
    assert only(rows, "node_cpu_seconds_total", cpu="1", mode="idle") == 2061.73
    assert only(rows, "node_cpu_seconds_total", cpu="0", mode="steal") == 0.22
    assert only(rows, "node_cpu_guest_seconds_total", cpu="0", mode="nice") == 0.01
    assert len(rows) == 2 * (8 + 2)


def test_an_old_kernel_has_fewer_columns() -> None:
    rows = table(parse("cpu0 100 0 50 1000\n"))
    assert {dict(labels)["mode"] for _, labels in rows} == {"user", "nice", "system", "idle"}
