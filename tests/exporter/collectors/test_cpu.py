from support.site import only, recorded_site, table
from tocsin_exporter.collectors.cpu import Seconds, cpu, parse, samples


async def test_seconds_by_cpu_and_mode_without_the_sum_over_cpus() -> None:
    rows = table(await cpu(recorded_site()).collect())
    assert only(rows, "node_cpu_seconds_total", cpu="1", mode="idle") == 2061.73
    assert only(rows, "node_cpu_seconds_total", cpu="0", mode="steal") == 0.22
    assert only(rows, "node_cpu_guest_seconds_total", cpu="0", mode="nice") == 0.01
    assert len(rows) == 2 * (8 + 2)


def test_an_old_kernel_has_fewer_columns() -> None:
    assert list(parse("cpu  9 9 9 9")) == []
    rows = table(samples(dict(parse("cpu0 100 0 50 1000")), {}))
    assert {dict(labels)["mode"] for _, labels in rows} == {"user", "nice", "system", "idle"}


def test_a_counter_that_steps_back_a_little_stands_still() -> None:
    last: dict[str, Seconds] = {}
    list(samples({"0": [10.0, 0.0, 5.0, 100.0]}, last))
    rows = table(samples({"0": [11.0, 0.0, 5.0, 98.5]}, last))
    assert only(rows, "node_cpu_seconds_total", mode="idle") == 100
    assert only(rows, "node_cpu_seconds_total", mode="user") == 11


def test_a_cpu_that_was_away_starts_again() -> None:
    last: dict[str, Seconds] = {}
    list(samples({"0": [10.0, 0.0, 5.0, 100.0]}, last))
    rows = table(samples({"0": [1.0, 0.0, 1.0, 4.0]}, last))
    assert only(rows, "node_cpu_seconds_total", mode="idle") == 4
    assert only(rows, "node_cpu_seconds_total", mode="user") == 1


def test_a_line_that_was_short_once_loses_no_column_for_good() -> None:
    last: dict[str, Seconds] = {}
    whole = [10.0, 0.0, 5.0, 100.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0]
    list(samples({"0": whole}, last))
    list(samples({"0": whole[:4]}, last))
    assert len(table(samples({"0": whole}, last))) == 8 + 2
