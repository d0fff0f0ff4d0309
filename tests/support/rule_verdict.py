"""Our own verdict on a unit-test file of rules."""

import asyncio
from functools import partial
from pathlib import Path

from tocsin_alerting.rules.rule_test import run
from tocsin_alerting.rules.rule_test_file import read_tests
from tocsin_alerting.rules.rule_test_store import make_test_store


def verdict(path: Path) -> tuple[bool, str]:
    """Whether the tests pass under semantics 2, and all that is said."""
    file = read_tests(path.read_text("utf-8"), str(path), semantics=2)
    report = asyncio.run(run(file, partial(make_test_store, semantics=2)))
    return report.ok, str(report)
