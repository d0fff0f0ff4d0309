"""Which lines of logs an incident keeps, and who may read them."""

from tocsin_alerting.incidents.log_lines import (
    MOST_LINES,
    LogLine,
    history_data,
    telling,
    without_lines,
)


def line(at_ms: int, source: str = "vllm", pattern: str = "nccl", text: str = "x") -> LogLine:
    return LogLine(at_ms, source, pattern, text)


def test_an_alert_about_a_log_keeps_what_its_labels_name() -> None:
    lines = [line(1), line(2, pattern="traceback"), line(3, source="db"), line(4)]
    about = {"source": "vllm", "pattern": "nccl", "instance": "a"}
    assert telling(lines, about, 0, 9) == [line(4), line(1)]
    assert telling(lines, {"source": "vllm"}, 0, 9) == [line(4), lines[1], line(1)]
    assert telling(lines, {"target": "h:8000"}, 0, 9) == lines[::-1]


def test_it_is_those_of_its_time_and_not_many() -> None:
    lines = [line(at) for at in range(100)]
    assert telling(lines, {}, 20, 30) == lines[30:20:-1]
    assert len(telling(lines, {}, 0, 100)) == MOST_LINES


def test_the_lines_are_not_for_everybody() -> None:
    data = history_data([line(1, text="a secret of ours")])
    assert data == {"count": 1, "lines": ["vllm (nccl): a secret of ours"]}
    assert without_lines("log_lines", data) == {"count": 1}
    assert without_lines("acked", {"lines": 1}) == {"lines": 1}
