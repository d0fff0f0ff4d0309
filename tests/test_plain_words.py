"""What an operator reads and greps for: log lines, error texts and pages in the field's words."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.plain_words import not_plain

ROOT = Path(__file__).parents[1]
PACKAGES = ("alerting/tocsin_alerting", "exporter/tocsin_exporter", "inference/tocsin_inference")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical", "log")
TROUBLE = (
    "blocked", "cannot", "corrupt", "damaged", "deleted", "died", "fail", "giving up", "lost",
    "refused", "rejected", "unreadable",
)  # fmt: skip


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


SOURCES = dict(_sources())


def _log_lines(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, level and message of each call of a logger whose message is a literal."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        name = ast.unparse(node.func.value).rpartition(".")[2]
        message = node.args[0]
        if name in ("log", "logger", "_logger") and node.func.attr in LEVELS:
            if isinstance(message, ast.Constant) and isinstance(message.value, str):
                yield node.lineno, node.func.attr, message.value


def _bad_line(level: str, message: str) -> list[str]:
    """What is wrong with a log line: `object verb: cause`, and what goes wrong named as such."""
    problems = not_plain(message)
    first = message.split()[0].lower()
    problems += [f"begins with {first!r}"] if first in ("a", "an", "the", "it", "no") else []
    problems += ["ends with a full stop"] if message.endswith(".") else []
    trouble = level in ("error", "exception", "critical")
    problems += (
        [f"names no trouble: {', '.join(TROUBLE)}"]
        if trouble and message != "%s" and not any(word in message for word in TROUBLE)
        else []
    )
    return problems


def test_each_log_line_is_an_object_a_verb_and_a_cause() -> None:
    lines = [
        (f"{path}:{line}", level, message)
        for path, tree in SOURCES.items()
        for line, level, message in _log_lines(tree)
    ]
    assert len(lines) > 60
    found = [
        (place, message, problems)
        for place, level, message in lines
        if (problems := _bad_line(level, message))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("error", "an outcome was not taken"),
        ("warning", "a loop broke and begins anew"),
        ("error", "samples are in memory only: %s"),
        ("warning", "WAL write failed."),
    ],
)
def test_a_bad_log_line_is_found(level: str, message: str) -> None:
    assert _bad_line(level, message)


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The string literals but for docstrings."""
    skipped = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in skipped:
                yield node.lineno, node.value


def test_no_text_of_the_product_has_a_turn_that_nobody_greps_for() -> None:
    found = [
        (f"{path}:{line}", turns)
        for path, tree in SOURCES.items()
        for line, text in _texts(tree)
        if (turns := not_plain(text))
    ]
    assert found == []


READ = ("*.md", "docs/*.md", "docs/config.yml", "docs/runbooks/*.md", "rules/*.yml",
        "alerting/tocsin_alerting/notify/templates/*")  # fmt: skip
OF_OLD_NAMES = ("glossary.md",)


@pytest.mark.parametrize("pattern", READ)
def test_no_page_has_a_turn_that_nobody_greps_for(pattern: str) -> None:
    paths = [path for path in sorted(ROOT.glob(pattern)) if path.name not in OF_OLD_NAMES]
    assert paths
    found = [
        (f"{path.relative_to(ROOT)}:{number}", turns)
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (turns := not_plain(line))
    ]
    assert found == []
