from support.site import NOW, only, recorded_site, table
from tocsin_exporter.collectors.time import time


async def test_the_clock_and_what_the_kernel_counts_it_with() -> None:
    rows = table(await time(recorded_site()).collect())
    assert only(rows, "node_time_seconds") == NOW
    assert abs(only(rows, "node_time_zone_offset_seconds")) <= 14 * 3600
    assert only(rows, "node_time_clocksource_current_info", clocksource="tsc", device="0") == 1
    assert only(rows, "node_time_clocksource_available_info", clocksource="kvm-clock") == 1
