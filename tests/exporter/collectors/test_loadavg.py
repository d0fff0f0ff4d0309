import pytest

from support.site import only, recorded_site, table
from tocsin_exporter.collectors.loadavg import loadavg, parse


async def test_three_averages() -> None:
    rows = table(await loadavg(recorded_site()).collect())
    assert [only(rows, f"node_load{n}") for n in (1, 5, 15)] == [0.35, 0.16, 0.1]


def test_a_broken_line_is_an_error() -> None:
    with pytest.raises(ValueError):
        list(parse("0.1 0.2"))
