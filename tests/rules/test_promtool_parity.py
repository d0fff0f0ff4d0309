"""Our verdict on the bundled rules' unit tests is promtool's, on right and wrong expectations."""

import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from support.promtool import needs_promtool, run_tests
from support.rule_verdict import verdict

RULES = Path(__file__).parents[2] / "rules"
TESTS = sorted((RULES / "tests").glob("*.yml"))
SHORT = sorted(TESTS, key=lambda path: path.stat().st_size)[:2]  # the others say the same, slowly
pytestmark = needs_promtool
Verdict = tuple[bool, str]


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    """As many as the smallest machine has cores; we take longer than promtool."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def ours(request: pytest.FixtureRequest, processes: Executor) -> Mapping[Path, Future[Verdict]]:
    """On each file that is asked for in this run, the longest first."""
    asked = {item.name for item in request.session.items}
    name = "test_both_agree_that_the_rules_are_right[{}]"
    chosen = [path for path in TESTS if name.format(path.name) in asked]
    chosen.sort(key=lambda path: path.stat().st_size, reverse=True)
    return {path: processes.submit(verdict, path) for path in chosen}


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
def test_both_agree_that_the_rules_are_right(
    path: Path, ours: Mapping[Path, Future[Verdict]]
) -> None:
    passed, said = run_tests(path)
    assert passed, said
    passed, said = ours[path].result()
    assert passed, said


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.name)
def test_both_find_the_same_wrong_expectations(
    path: Path, tmp_path: Path, processes: Executor
) -> None:
    wrong = spoiled(path, tmp_path)
    asked = processes.submit(verdict, wrong)
    passed, theirs = run_tests(wrong)
    passed_by_us, said = asked.result()
    assert not passed and not passed_by_us
    assert failures(said) == failures(theirs)
    assert said.split() == theirs.split()
