"""The access log on a real disk: how much of it stays."""

import json
from pathlib import Path

import pytest

from tocsin_exporter.proxy.access_log import AccessLog


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_no_more_stays_than_was_asked_for_and_that_is_the_newest(tmp_path: Path, keep: int) -> None:
    lost: list[None] = []
    log = AccessLog(tmp_path / "log", 1000, keep, lambda: lost.append(None))
    for number in range(200):
        log.add({"number": number, "path": "/v1/chat/completions"})
    log.close(10.0)
    names = ["log", *(f"log.{n + 1}" for n in range(keep))]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    text = "".join((tmp_path / name).read_text() for name in reversed(names))
    kept = [json.loads(line)["number"] for line in text.splitlines()]
    assert kept == list(range(200 - len(kept), 200))
    assert len(kept) > 15 * keep
    assert lost == []
