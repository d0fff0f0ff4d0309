"""Our verdict on the bundled rules' unit tests is promtool's, on right and wrong expectations."""

import asyncio
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from support.promtool import needs_promtool, run_tests
from tocsin_alerting.rounds.bench import make_bench
from tocsin_alerting.rules.rule_test import Report, run
from tocsin_alerting.rules.rule_test_file import read_tests

RULES = Path(__file__).parents[2] / "rules"
TESTS = sorted((RULES / "tests").glob("*.yml"))
SHORT = sorted(TESTS, key=lambda path: path.stat().st_size)[:2]  # the others say the same, slowly
pytestmark = needs_promtool


def ours(path: Path) -> Report:
    return asyncio.run(
        run(read_tests(path.read_text("utf-8"), str(path)), partial(make_bench, semantics=2))
    )


def spoiled(path: Path, folder: Path) -> Path:
    """A copy whose expectations are wrong in each place where a summary is expected."""
    shutil.copytree(RULES, folder / "rules")
    copy = folder / "rules" / "tests" / path.name
    text = copy.read_text("utf-8")
    wrong = re.sub(r"(?m)^(\s+summary:) .*$", r"\1 Something that no rule says.", text)
    assert wrong != text
    copy.write_text(wrong, "utf-8")
    return copy


def failures(said: str) -> list[str]:
    """What failed, in order, without the alerts."""
    return re.findall(r"alertname: \S+, time: \S+, |expr: .*, time: \S+,", said)


def test_there_are_tests() -> None:
    assert len(TESTS) >= 5


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_both_agree_that_the_rules_are_right(path: Path) -> None:
    with ThreadPoolExecutor(1) as other:
        theirs = other.submit(run_tests, path)
        report = ours(path)
        assert report.ok, str(report)
        assert theirs.result()[0]


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.name)
def test_both_find_the_same_wrong_expectations(path: Path, tmp_path: Path) -> None:
    wrong = spoiled(path, tmp_path)
    with ThreadPoolExecutor(1) as other:
        theirs = other.submit(run_tests, wrong)
        report = ours(wrong)
    passed, said = theirs.result()
    assert not passed and not report.ok
    assert failures(str(report)) == failures(said)
    assert str(report).split() == said.split()
