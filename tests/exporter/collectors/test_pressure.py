from pathlib import Path

import pytest

from support.site import only, recorded_site, table
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.pressure import pressure


async def test_microseconds_become_seconds_and_a_missing_resource_is_left_out() -> None:
    rows = table(await pressure(recorded_site()).collect())
    assert only(rows, "node_pressure_cpu_waiting_seconds_total") == 10.278973
    assert only(rows, "node_pressure_io_stalled_seconds_total") == 4.510318
    assert only(rows, "node_pressure_irq_stalled_seconds_total") == 2.5
    assert len(rows) == 4  # no memory file was recorded, and cpu has no "stalled"


async def test_a_kernel_without_it_has_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="psi=1"):
        await pressure(recorded_site(tmp_path)).collect()
