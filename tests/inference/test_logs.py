"""The worker's log lines against the agent's own, and what is kept from them."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable

import pytest

from tocsin_exporter.log_limit import LogLimit
from tocsin_exporter.logs import JsonLines, Logfmt
from tocsin_inference.logs import FORMATS, LineFormatter, configure


def record(level: int, message: str, failed: bool = False) -> logging.LogRecord:
    try:
        raise ValueError("no")
    except ValueError:
        info = sys.exc_info() if failed else None
    return logging.LogRecord("tocsin.worker", level, "/x/server.py", 51, message, None, info)


@pytest.mark.parametrize("level", [10, 20, 30, 40, 50])
@pytest.mark.parametrize("message", ["ready", "two words", 'a="b"', "a\nb", "größer", ""])
@pytest.mark.parametrize("failed", [True, False])
def test_lines_are_those_of_the_agent(level: int, message: str, failed: bool) -> None:
    one = record(level, message, failed)
    assert LineFormatter("logfmt").format(one) == Logfmt().format(one)
    assert LineFormatter("json").format(one) == JsonLines().format(one)
    assert "\n" not in LineFormatter("logfmt").format(one)


@pytest.mark.parametrize(("level", "heard"), [("info", False), ("debug", True)])
def test_the_server_speaks_of_its_start_at_debug_only(level: str, heard: bool) -> None:
    stream = io.StringIO()
    configure(level, "logfmt", stream)
    logging.getLogger("uvicorn.error").info("Uvicorn running")
    logging.getLogger("uvicorn.error").error("trouble")
    logging.getLogger("tocsin.worker").info("serving")
    text = stream.getvalue()
    assert ("Uvicorn running" in text) is heard
    assert "trouble" in text and "serving" in text


def test_what_a_line_says_besides_its_message_is_said_as_the_agent_says_it() -> None:
    one = record(30, "a bad request: %s", True)
    one.args = ("no",)
    vars(one).update(client="10.0.0.7:5", status=400, taskName="Task-1", where={"a": 1})
    assert LineFormatter("logfmt").format(one) == Logfmt().format(one)
    assert LineFormatter("json").format(one) == JsonLines().format(one)
    assert 'client=10.0.0.7:5 status=400 where="' in LineFormatter("logfmt").format(one)


def test_a_summary_says_of_what_there_was_more() -> None:
    stream = io.StringIO()
    configure("info", "logfmt", stream)
    (limit,) = logging.getLogger().handlers[0].filters
    calls: list[Callable[[], None]] = []
    assert isinstance(limit, LogLimit)
    limit._later = lambda seconds, call: calls.append(call)
    for number in range(30):
        logging.getLogger("tocsin.worker").warning("a bad request: %d", number)
    calls[0]()
    assert 'lines_left_out=10 last="a bad request: 29"' in stream.getvalue().splitlines()[-1]


def test_json_is_one_object_a_line() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    logging.getLogger("tocsin.worker").info("serving %s", "m")
    assert json.loads(stream.getvalue())["msg"] == "serving m"
    assert set(FORMATS) == {"logfmt", "json"}
