"""The worker's log lines, and what is kept from them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable

import pytest

from tocsin_exporter.log_limit import LogLimit
from tocsin_inference.logs import FORMATS, configure


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


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_line_is_one_line_of_the_agents_shape_that_steers_no_terminal(form: str) -> None:
    stream = io.StringIO()
    configure("info", form, stream)
    where = {"client": "10.0.0.7:5", "status": 400, "taskName": "Task-1"}
    logging.getLogger("tocsin.worker").warning("a bad\nrequest: %s", "\x1b[2J\u202e", extra=where)
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    if form == "json":
        read = json.loads(line)
        assert (read["level"], read["client"], read["status"]) == ("WARN", "10.0.0.7:5", 400)
        assert "taskName" not in read and read["msg"] == "a bad\nrequest: \x1b[2J\u202e"
    else:
        assert "level=WARN source=test_logs.py:" in line
        assert line.endswith("client=10.0.0.7:5 status=400")


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
