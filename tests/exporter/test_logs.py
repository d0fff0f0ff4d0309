import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_exporter.logs import LogFormat, configure, visible


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(form: LogFormat, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(level, form, stream)
    return stream


def test_logfmt_has_the_fields_of_prometheus_in_their_order() -> None:
    stream = logged("logfmt")
    logging.getLogger("x").warning("cannot %s", "read it", extra={"path": "/a b", "n": 3})
    time, level, source, rest = stream.getvalue().split(" ", 3)
    assert time.startswith("time=2") and time.endswith("Z") and len(time) == 29
    assert level == "level=WARN" and source.startswith("source=test_logs.py:")
    assert rest == 'msg="cannot read it" path="/a b" n=3\n'


def test_no_field_takes_the_place_of_the_time_the_level_or_the_source() -> None:
    stream = logged("json")
    logging.getLogger("x").info("y", extra={"source": "firing", "level": "P0", "time": 0})
    line = json.loads(stream.getvalue())
    assert line["level"] == "INFO" and line["source"].startswith("test_logs.py:")
    assert str(line["time"]).startswith("2")


def test_a_line_end_in_a_value_does_not_start_a_line() -> None:
    stream = logged("logfmt")
    logging.getLogger("x").info("one\nlevel=ERROR msg=forged", extra={"k": 'a"b=c\\'})
    assert stream.getvalue().count("\n") == 1
    assert r'msg="one\nlevel=ERROR msg=forged" k="a\"b=c\\"' in stream.getvalue()


def test_json_reads_back_and_carries_the_stack() -> None:
    stream = logged("json")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("it failed", extra={"path": io})
    line = json.loads(stream.getvalue())
    assert list(line) == ["time", "level", "source", "msg", "path", "stack"]
    assert line["stack"].endswith("ValueError: broken")


def test_the_level_holds_and_chatty_libraries_are_quiet() -> None:
    stream = logged("logfmt", "warn")
    logging.getLogger("x").info("no")
    assert stream.getvalue() == ""
    stream = logged("logfmt", "info")
    logging.getLogger("httpx2").info("GET /metrics")
    assert stream.getvalue() == ""


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(KeyError):
        logged("logfmt", "loud")


STEERING = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\u2066\u2028\x7f\x00"


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_what_would_steer_a_terminal_is_shown(form: LogFormat) -> None:
    stream = logged(form)
    extra = {"target": STEERING, "bare": "a\x9bb\u202ec"}
    logging.getLogger("x").warning("said %s, \u4e2d\u6587\u3000\u65e5\u5fd7", STEERING, extra=extra)
    line = stream.getvalue().removesuffix("\n")
    assert line.replace("\u3000", "").isprintable() and "\u4e2d\u6587\u3000\u65e5\u5fd7" in line
    assert line.count(r"\u001b[2J") == 2 and line.count(r"\u202eevil") == 2 and r"a\u009bb" in line


@given(st.text())
def test_a_json_document_means_the_same_when_it_is_visible(text: str) -> None:
    shown = visible(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(shown) == {text: text}
    assert all(one.isprintable() or one.isspace() for one in shown)


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_what_others_have_made_long_is_cut_and_says_so(form: LogFormat) -> None:
    stream = logged(form)
    extra = {"target": "t" * 5_000, "who": ["li"] * 1_000, "count": 10**40, "ok": "x" * 1_000}
    logging.getLogger("x").warning("said %s", "l" * 500_000, extra=extra)
    line = stream.getvalue()
    assert len(line) < 12_000 and "x" * 1_000 in line and str(10**40) in line
    assert "l… (491813 characters more)" in line and "t… (3976 characters more)" in line
    assert line.count("characters more") == 3
