"""What holds for every test: in CI no peer may be missing, so a skip for want of one fails."""

import gc
import os
import re
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest

from support.installed import Ahead

hypothesis.settings.register_profile("busy", deadline=None)  # an example has 0.2 s otherwise
hypothesis.settings.load_profile("busy")

OF_INFERENCE = re.compile(r"No module named '(torch|transformers|safetensors|gguf|fastapi)\b")
MISSING = ("not installed", "is missing", "not found", "could not import")


def pytest_collection_finish() -> None:
    """What the imports made stays: each of transformers' managers collects garbage twice when it
    ends, and looking through all of that takes longer than the test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def wheel_ahead(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ahead | None]:
    """Begun before the first test, where any test asks for it: most of it is waiting for pip."""
    if not any(item.path.name == "test_wheel.py" for item in request.session.items):
        yield None
        return
    with ThreadPoolExecutor(1) as executor:
        yield Ahead(tmp_path_factory.mktemp("installed"), executor)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file whose imports need the extra `inference` is skipped where that is missing."""
    report = yield
    missing = OF_INFERENCE.search(str(report.longrepr)) if report.failed else None
    if missing and os.environ.get("TOCSIN_PEERS") != "required":
        report.outcome = "skipped"
        reason = f"Skipped: {missing[1]} is missing: scripts/venv inference,apprise,dev"
        report.longrepr = (str(collector.path), 0, reason)
    return report


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
