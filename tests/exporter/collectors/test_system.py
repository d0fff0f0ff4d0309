"""What kind of system this is: cases that no recorded page has."""

from pathlib import Path

import pytest

from support.machines import machine
from support.site import only, recorded_site, table
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.system import assignment, release, selinux
from tocsin_exporter.collectors.timex import Timex, adjtimex, samples, timex


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('NAME="Debian GNU/Linux"', "Debian GNU/Linux"),
        ("NAME='a \"b\"'", 'a "b"'),
        ("NAME=plain", "plain"),
        ("NAME=", ""),
    ],
)
def test_a_value_is_read_as_a_shell_reads_it(line: str, value: str) -> None:
    assert list(assignment(line)) == [("NAME", value)]


async def test_a_broken_line_of_the_release_costs_itself(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text('ID=x\nNAME="never ends\nVERSION_ID=9\n%\n')
    collector = release(machine(tmp_path, CollectorSettings()))
    rows = table(await collector.collect())
    collector.close()
    assert only(rows, "node_os_info", id="x", version_id="9") == 1
    assert only(rows, "node_os_version", id="x") == 9
    assert collector.lines.skipped["malformed"] == 2


async def test_a_system_without_a_release_has_none(tmp_path: Path) -> None:
    collector = release(machine(tmp_path, CollectorSettings()))
    with pytest.raises(Unavailable):
        await collector.collect()
    collector.close()


@pytest.mark.parametrize(
    ("config", "mode"),
    [("SELINUX=enforcing", 1), ("# SELINUX=enforcing\nSELINUX=Permissive", 0), ("", -1)],
)
async def test_modes_of_selinux(tmp_path: Path, config: str, mode: float) -> None:
    for path, content in {"sys/fs/selinux/enforce": "1", "etc/selinux/config": config}.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(content)
    collector = selinux(machine(tmp_path, CollectorSettings()))
    rows = table(await collector.collect())
    collector.close()
    assert only(rows, "node_selinux_enabled") == only(rows, "node_selinux_current_mode") == 1
    assert only(rows, "node_selinux_config_mode") == mode


def test_a_clock_that_nobody_keeps_is_not_in_sync() -> None:
    rows = table(samples(5, Timex(status=0x40, offset=250, tick=10_000, maxerror=16_000_000)))
    assert only(rows, "node_timex_sync_status") == 0
    assert only(rows, "node_timex_offset_seconds") == 250e-6
    assert only(rows, "node_timex_maxerror_seconds") == 16
    assert only(rows, "node_timex_tick_seconds") == 0.01


def test_a_fine_clock_says_nanoseconds() -> None:
    fine = Timex(status=0x2001, offset=-1500, jitter=7, freq=65536, tai=37)
    rows = table(samples(0, fine))
    assert only(rows, "node_timex_sync_status") == 1
    assert only(rows, "node_timex_offset_seconds") == -1.5e-6
    assert only(rows, "node_timex_pps_jitter_seconds") == 7e-9
    assert only(rows, "node_timex_frequency_adjustment_ratio") == 1 + 1e-6
    assert only(rows, "node_timex_tai_offset_seconds") == 37


def test_a_clock_that_waits_for_a_leap_second_is_in_sync() -> None:
    assert only(table(samples(1, Timex())), "node_timex_sync_status") == 1


async def test_the_kernel_is_asked_for_its_clock() -> None:
    state, clock = adjtimex()
    assert 0 <= state <= 5
    rows = table(await timex(recorded_site()).collect())
    assert len(rows) == 17
    assert only(rows, "node_timex_tick_seconds") == clock.tick / 1e6
