"""The bundled policies page as their tests say."""

from pathlib import Path

import pytest

from support.command_line import alertctl
from tocsin_alerting.rules.severity import Severity

ROOT = Path(__file__).parents[2]
TESTS = sorted((ROOT / "rules" / "tests" / "policy").glob("*.test.yml"))
TRIED = ("nobody answers", "acknowledged at 14:59", "silenced for two hours", "killed")


def test_every_severity_has_them() -> None:
    for severity in Severity:
        path = TESTS[0].with_name(f"{severity.lower()}.test.yml")
        text = path.read_text("utf-8")
        assert [words for words in TRIED if words not in text] == []
        assert "fails: {status" in text


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_they_pass(path: Path) -> None:
    ended = alertctl("test", str(path))
    assert ended.code == 0, ended.err
