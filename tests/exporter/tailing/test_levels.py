"""How bad a line says it is, in the forms of programs beside a model."""

import pytest

from tocsin_exporter.tailing.levels import compiled, level_of, own_levels


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("(APIServer pid=1) ERROR 05-12 01:48:42 [api_router.py:72] x", "error"),
        ("INFO 05-12 01:48:42 [loggers.py:116] Engine 000: no errors, ERROR rate 0", "info"),
        ('INFO:     10.0.0.7:51234 - "GET /health HTTP/1.1" 200 OK', "info"),
        ("WARNING: x", "warning"),
        ('{"timestamp":"t","level":"ERROR","message":"x"}', "error"),
        ('{"level": "warn", "msg": "error"}', "warning"),
        ("time=2026-03-01T10:00:00Z level=WARN source=server.go:164 msg=x", "warning"),
        ("2026/11/30 10:00:00 [error] 7#7: *1 upstream timed out", "error"),
        ("2026/11/30 10:00:00 [crit] 7#7: x", "critical"),
        ("E0512 01:48:42.123456 7 server.cc:10] failed", "error"),
        ("I0512 01:48:42.123456 7 server.cc:10] ERRORS none", "info"),
        ("node7:1:1 [0] misc/socket.cc:49 NCCL WARN socketProgress", "warning"),
        ("error: cannot open", "error"),
        ("0.00.123 I slot launch: processing task", "unknown"),
        ("an error of the disk", "unknown"),
        ("x" * 300 + " ERROR", "unknown"),
        ("", "unknown"),
    ],
)
def test_levels(line: str, level: str) -> None:
    assert level_of(line.encode()) == level
    assert level_of(b"\xff " + line.encode()) in (level, "unknown")


def test_levels_of_ones_own() -> None:
    of = own_levels(r"^\S+ (?P<level>[A-Z]+)")
    assert [of(line) for line in (b"x FATAL y", b"x OTHER y", b"")] == [
        *("critical", "unknown", "unknown"),
    ]


@pytest.mark.parametrize(
    ("regex", "why"), [("(x", "missing"), (r"(?=x)", "RE2"), ("x", "no group")]
)
def test_an_expression_that_cannot_be_used(regex: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        own_levels(regex)


def test_nothing_is_written_about_a_bad_expression(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="RE2"):
        compiled("(?P<x")
    assert capfd.readouterr().err == ""
