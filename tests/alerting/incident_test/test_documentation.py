"""The examples of docs/testing.md are run, and it names every key."""

import re
from pathlib import Path

import pytest

from support.command_line import alertctl
from tocsin_alerting.incident_test.expectations import KINDS, MESSAGE_KEYS
from tocsin_alerting.incident_test.reading import BLOCK_KEYS, KEYS

PAGE = (Path(__file__).parents[3] / "docs" / "testing.md").read_text("utf-8")
BLOCKS = re.findall(r"(?ms)^```yaml\n# (\S+)\n(.*?)^```", PAGE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in BLOCKS:
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_passes(folder: Path) -> None:
    assert [name for name, _ in BLOCKS] == ["rules.yml", "tocsin.yml", "hung.test.yml"]
    ended = alertctl("test", "hung.test.yml")
    assert (ended.code, ended.out) == (0, "Unit Testing:  hung.test.yml\n  SUCCESS\n\n"), ended.err


def test_the_failure_is_as_shown(folder: Path) -> None:
    (shown,) = re.findall(r"(?ms)^```\nUnit Testing:.*?\n(.*?)^```", PAGE)
    text = (folder / "hung.test.yml").read_text()
    text = text[: text.index("    actions:")] + (
        "    expect:\n"
        "    - {at: 20m, page: {contact: li, step: 1}}\n"
        "    - {at: 5m, page: {receiver: room}}\n"
    )
    (folder / "hung.test.yml").write_text(text)
    ended = alertctl("test", "hung.test.yml")
    assert (ended.code, ended.err) == (1, shown)


def test_every_key_is_on_the_page() -> None:
    named = {*BLOCK_KEYS, *KEYS, *KINDS}
    named |= {key for keys in (*KEYS.values(), *MESSAGE_KEYS.values()) for key in keys}
    code = " ".join(re.findall(r"`([^`\n]+)`", PAGE))
    assert [key for key in sorted(named) if not re.search(rf"\b{key}\b", code)] == []
