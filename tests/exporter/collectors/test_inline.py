from pathlib import Path

import pytest

from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.inline import InlineCollector, text
from tocsin_exporter.snapshot import Family, Sample

ONE = Family("one", "gauge", "One.")


def test_all_of_a_file_is_read_and_bad_bytes_are_marked(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100_000 + b"\xff")
    assert text(path) == "x" * 100_000 + "\ufffd"


async def test_a_missing_file_is_nothing_to_read(tmp_path: Path) -> None:
    reading = InlineCollector("r", lambda: [Sample(ONE, float(text(tmp_path / "no")))])
    with pytest.raises(Unavailable, match="no does not exist"):
        await reading.collect()


async def test_what_does_not_parse_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("three")
    reading = InlineCollector("r", lambda: [Sample(ONE, float(text(tmp_path / "f")))])
    with pytest.raises(CollectorError, match="three"):
        await reading.collect()


async def test_a_directory_instead_of_a_file_is_named(tmp_path: Path) -> None:
    reading = InlineCollector("r", lambda: [Sample(ONE, float(text(tmp_path)))])
    with pytest.raises(CollectorError, match="cannot read"):
        await reading.collect()
