"""Our verdict on the bundled rules' unit tests is promtool's, on right and wrong expectations.

The LONG ones take us 30 s under semantics 2; under 3 test_wheel.py has the wheel run all of them.
"""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.promtool import needs_promtool, run_tests
from support.rule_verdict import verdict

RULES = Path(__file__).parents[2] / "rules"
TESTS = sorted([*(RULES / "tests").glob("*.yml"), *(RULES / "tests" / "prometheus").glob("*.yml")])
LONG = {f"{name}.test.yml" for name in ("tocsin", "inference_throughput")}
SHORT = [RULES / "tests" / f"{name}.test.yml" for name in ("host", "inference_capacity")]
pytestmark = needs_promtool
Verdict = tuple[bool, str]


def verdicts(path: Path) -> tuple[Verdict, Verdict]:
    """Ours and promtool's, which works in another process meanwhile."""
    with ThreadPoolExecutor(1) as executor:
        theirs = executor.submit(run_tests, path)
        return verdict(path), theirs.result()


def spoiled(path: Path, folder: Path) -> Path:
    """A copy whose expectations are wrong in each place where a summary is expected."""
    shutil.copytree(RULES, folder / "rules")
    copy = folder / "rules" / "tests" / path.name
    text = copy.read_text("utf-8")
    wrong = re.sub(r"(?m)^(\s+summary:) .*$", r"\1 Something that no rule says.", text)
    assert wrong != text
    copy.write_text(wrong, "utf-8")
    return copy


def failures(printed: str) -> list[str]:
    """What failed, in order, without the alerts."""
    return re.findall(r"alertname: \S+, time: \S+, |expr: .*, time: \S+,", printed)


def test_there_are_tests() -> None:
    assert len(TESTS) >= 5


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_promtool_agrees_that_the_rules_are_right(path: Path) -> None:
    passed, printed = run_tests(path)
    assert passed, printed


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.long if path.name in LONG else ()) for path in TESTS],
    ids=lambda path: path.name,
)
def test_we_agree_that_the_rules_are_right(path: Path) -> None:
    passed, printed = verdict(path)
    assert passed, printed


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.name)
def test_both_find_the_same_wrong_expectations(path: Path, tmp_path: Path) -> None:
    ours, theirs = verdicts(spoiled(path, tmp_path))
    assert not ours[0] and not theirs[0]
    assert failures(ours[1]) == failures(theirs[1])
    assert ours[1].split() == theirs[1].split()
