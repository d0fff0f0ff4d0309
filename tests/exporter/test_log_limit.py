"""What strangers can make the log say often is said a few times and then counted."""

import io
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest

from support.exhausted import no_threads
from tocsin_exporter.log_limit import Later, LogLimit


class Log:
    """A handler behind the limit; `later` holds what is to be called at the end of the minute."""

    def __init__(self, later: Later | None = lambda seconds, call: None) -> None:
        self.lines: list[str] = []
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.limit = LogLimit(3, later and (lambda *planned: self.later.append(planned)))

    def say(
        self,
        message: str,
        *values: object,
        at: float = 0.0,
        name: str = "tocsin_alerting.api.http.server",
        level: int = logging.WARNING,
    ) -> None:
        record = logging.LogRecord(name, level, "", 1, message, values, None)
        record.created = 1000.0 + at
        if self.limit.filter(record):
            self.lines.append(record.getMessage())


def test_lines_of_one_kind_are_counted_whatever_they_are_filled_with(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log()
    for number in range(10):
        log.say("no %d", number, at=number)
    log.say("another", at=10)
    log.say("no %d", 7, name="tocsin_exporter.http_server")
    assert log.lines == ["no 0", "no 1", "no 2", "another", "no 7"]
    ((seconds, sum_up),) = log.later
    assert seconds == 57
    sum_up()
    (summary,) = caplog.records
    assert summary.getMessage() == "7 more like this in the last minute"
    assert (summary.name, summary.levelno) == ("tocsin_alerting.api.http.server", logging.WARNING)
    assert vars(summary)["last"] == "no 9"
    assert log.limit.filter(summary)
    sum_up()
    assert len(caplog.records) == 1
    for _ in range(2):
        log.say("no %d", 10, at=59)
    log.later[1][1]()
    assert caplog.records[1].getMessage() == "2 more like this in the last minute"


def test_a_loop_that_is_blocked_again_and_again_is_one_pair_a_minute_and_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, name = Log(), "tocsin_exporter.loop_watchdog"
    for second in range(0, 60, 2):
        log.say("event loop blocked for %.1f s: %s", 1.1, "stack", at=second, name=name)
        log.say("event loop recovered", at=second + 1, name=name)
    assert log.lines == ["event loop blocked for 1.1 s: stack", "event loop recovered"]
    for _, sum_up in log.later:
        sum_up()
    assert [record.getMessage() for record in caplog.records] == [
        "29 more like this in the last minute"
    ] * 2
    log.say("event loop blocked for %.1f s: %s", 9.0, "stack", at=60, name=name)
    assert log.lines[2:] == ["event loop blocked for 9.0 s: stack"]


def test_the_next_minute_begins_anew() -> None:
    log = Log()
    for at in (0, 1, 2, 3, 59.9, 60, 61, 62, 63):
        log.say("no", at=at)
    assert log.lines == ["no"] * 6
    assert len(log.later) == 2


def test_a_clock_that_is_set_back_hides_nothing_for_long() -> None:
    log = Log()
    for at in (0, 1, 2, 3, -3600, -3599, -3598, -3597):
        log.say("no", at=at)
    assert log.lines == ["no"] * 6


@pytest.mark.parametrize(
    "name",
    ["tocsin.incident", "tocsin.page", "tocsin_alerting.notify.log", "tocsin_alerting.incidents.a",
     "tocsin_alerting.loops.rule_loop", "tocsin_alerting.app", "tocsin_exporters"],
)  # fmt: skip
def test_what_may_page_is_never_left_out(name: str) -> None:
    log = Log()
    for _ in range(1000):
        log.say("P0 EngineDown", name=name)
    assert len(log.lines) == 1000


def test_what_was_asked_for_with_the_level_debug_is_all_there() -> None:
    log = Log()
    for _ in range(1000):
        log.say("a query", level=logging.DEBUG)
    assert len(log.lines) == 1000


def test_levels_are_kinds_of_their_own() -> None:
    log = Log()
    for level in (logging.INFO, logging.ERROR) * 3:
        log.say("no", level=level)
    assert len(log.lines) == 6


def test_without_a_thread_nothing_is_raised_and_the_count_comes_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log(later=None)
    with no_threads():
        for number in range(5):
            log.say("no %d", number, at=number)
    log.say("another", at=59)
    assert log.lines == ["no 0", "no 1", "no 2", "another"] and not caplog.records
    log.say("another", at=60)
    log.say("another", at=61)
    (summary,) = caplog.records
    assert summary.getMessage() == "2 more like this in the last minute"
    assert vars(summary)["last"] == "no 4"


def test_an_exception_is_logged_where_no_thread_can_be_had() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(LogLimit(1))
    logger = logging.getLogger("tocsin_exporter.scrape_manager.test")
    logger.addHandler(handler)
    try:
        with no_threads():
            for _ in range(3):
                logger.exception("scrape failed")
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue().count("scrape failed") == 1


def test_values_that_do_not_fit_their_template_cost_no_summary(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log()
    for number in range(3):
        log.say("no %d", number)
    with suppress(TypeError):
        log.say("no %d", "not", "these")
    log.later[0][1]()
    assert vars(caplog.records[0])["last"] == "no %d"
