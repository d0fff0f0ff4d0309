"""Which names are a log's past."""

import pytest

from tocsin_exporter.tailing.siblings import is_rotated, without_rotated


@pytest.mark.parametrize(
    "name",
    ["app.log.1", "app.log.12", "app.log-20261130", "app.log.2026-11-30", "app.log.2026-11-30_10",
     "app.log.20261130-101010", "app.log.old"],
)  # fmt: skip
def test_names_of_rotated_files(name: str) -> None:
    assert is_rotated(name, "app.log")


@pytest.mark.parametrize(
    "name", ["app.log", "app.log.1.gz", "app.log.gz", "app.log.err", "app.log-2", "app.logs.1"]
)
def test_other_names(name: str) -> None:
    assert not is_rotated(name, "app.log")


def test_a_pattern_that_finds_rotated_files_too() -> None:
    found = ["/a/x.log.1", "/a/x.log", "/b/x.log.1", "/a/worker", "/a/worker-1", "/a/x.log.2.gz"]
    assert without_rotated(found) == ["/a/worker", "/a/worker-1", "/a/x.log", "/b/x.log.1"]
