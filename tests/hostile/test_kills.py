"""What was taken is paged, whatever dies: some kills in every run, 300 in the long one."""

from pathlib import Path

import pytest

from hostile.kill_storm import KillStorm


@pytest.mark.parametrize("keys", ["", ", deliver_within: 3s, fallback: spare"])
@pytest.mark.parametrize("kills", [6, pytest.param(300, marks=pytest.mark.long)])
async def test_every_page_arrives_whatever_dies(tmp_path: Path, kills: int, keys: str) -> None:
    storm = KillStorm(tmp_path, kills, 4911, keys)
    wrong = await storm.run()
    assert wrong == [], storm.counts
    assert storm.counts["kills"] == kills
    assert len(storm.alerts) > 2 and storm.counts["messages"] > 4
