"""What holds for every test: in CI no peer may be missing, so a skip for want of one fails."""

import os
from collections.abc import Generator

import pytest

MISSING = ("not installed", "is missing", "not found")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    reason = str(report.longrepr)
    required = os.environ.get("TOCSIN_PEERS") == "required"
    if required and report.skipped and any(words in reason for words in MISSING):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} may not skip here: {reason}"
    return report
