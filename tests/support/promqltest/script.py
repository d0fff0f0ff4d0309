"""A promqltest script as data: the commands of a file, in order.

The language is described in prometheus/prometheus, promql/promqltest/README.md.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.rules.series_notation import Value, parse_series_notation
from tocsin_alerting.time_format import parse_duration
from tocsin_exporter.snapshot import Labels

_LOAD = re.compile(r"load(?:_(with_nhcb))?\s+(.+?)$")
_INSTANT = re.compile(r"eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(\S+)\s+)?(.+)$")
_RANGE = re.compile(
    r"eval(?:_(fail|warn|info))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)$"
)
_EXPECT = re.compile(r"expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$")
_EXPECT_RANGE = re.compile(r"expect range vector from (\S+) to (\S+) step (\S+)$")
_EXPECT_STRING = re.compile(r"""expect string\s+["`](.*)["`]$""")
_STARTS = re.compile(r"(\S+?)@st\s+(.*)$")
_TEXT = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`'
_SERIES = re.compile(rf"(?P<metric>[^\s{{]*(?:\{{(?:{_TEXT}|[^}}\"'`])*\}})?)\s*(?P<points>.*)$")


@dataclass(frozen=True)
class Points:
    """A series and its values, one a step; `native` when any is a native histogram."""

    labels: Labels
    values: list[Value]
    native: bool = False


@dataclass(frozen=True)
class Load:
    line: int
    step_ms: int
    series: list[Points]
    nhcb: bool
    starts: list[Points] = field(default_factory=list)  # milliseconds from the samples' times


@dataclass(frozen=True)
class Clear:
    line: int


@dataclass
class Expected:
    """What an evaluation must give; `scalar` when a bare number stands there."""

    series: list[Points] = field(default_factory=list)
    scalar: float | None = None
    text: str | None = None
    ordered: bool = False
    window: tuple[int, int, int] | None = None
    notes: list[tuple[str, str, str]] = field(default_factory=list)  # (kind, how, text)


@dataclass(frozen=True)
class Eval:
    """An instant query has `start_ms` equal to `end_ms` and no step."""

    line: int
    query: str
    start_ms: int
    end_ms: int
    step_ms: int
    expected: Expected

    @property
    def is_range(self) -> bool:
        return self.step_ms > 0


Command = Load | Clear | Eval


def parse_script(text: str) -> Iterator[Command]:
    """Raises ValueError, `line: what`, for what is no command."""
    lines = [re.sub(r"^\s*#.*", "", line).strip() for line in text.splitlines()]
    at = 0
    while at < len(lines):
        head, number = lines[at], at + 1
        at += 1
        block = []
        while head and head != "clear" and at < len(lines) and lines[at]:
            block.append(lines[at])
            at += 1
        if head:
            try:
                command = _command(head, block, number)
            except ValueError as error:
                raise ValueError(f"{number}: {error}") from None
            yield command


def milliseconds(text: str) -> int:
    """`5m`, `-1h`, or seconds."""
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("-")
    if re.fullmatch(r"[0-9.]+", text):
        return sign * round(float(text) * 1000)
    return sign * parse_duration(text)


def _command(head: str, block: list[str], line: int) -> Command:
    if head == "clear":
        return Clear(line)
    if load := _LOAD.fullmatch(head):
        series = [points(one) for one in block if not _STARTS.match(one)]
        starts = [_start_times(found) for one in block if (found := _STARTS.match(one))]
        return Load(line, milliseconds(load[2]), series, load[1] is not None, starts)
    if instant := _INSTANT.fullmatch(head):
        at_ms = milliseconds(instant[2] or "0")
        return Eval(line, instant[3], at_ms, at_ms, 0, _expected(block, instant[1]))
    if ranged := _RANGE.fullmatch(head):
        start, end, step = (milliseconds(ranged[i]) for i in (2, 3, 4))
        return Eval(line, ranged[5], start, end, step, _expected(block, ranged[1]))
    raise ValueError(f"no command: {head}")


def _expected(block: list[str], mode: str | None) -> Expected:
    expected = Expected(ordered=mode == "ordered")
    if mode in ("fail", "warn", "info"):
        expected.notes.append((mode, "", ""))
    for line in block:
        if line.startswith(("expect", "expected_fail")):
            _expect(line, expected)
        elif re.fullmatch(r"[-+]?(?:[0-9.]\S*|[iI]nf|[nN]a[nN])", line):
            expected.scalar = float(line)
        else:
            expected.series.append(points(line))
    return expected


def _expect(line: str, expected: Expected) -> None:
    if window := _EXPECT_RANGE.fullmatch(line):
        start, end, step = (milliseconds(one) for one in window.groups())
        expected.window = (start, end, step)
    elif text := _EXPECT_STRING.fullmatch(line):
        expected.text = text[1]
    elif line == "expect ordered":
        expected.ordered = True
    elif found := _EXPECT.fullmatch(line):
        expected.notes.append((found[1], found[2] or "", (found[3] or "").strip()))
    elif line.startswith("expected_fail_"):
        how, _, text_ = line.removeprefix("expected_fail_").partition(" ")
        expected.notes.append(("fail", "msg" if how == "message" else "regex", text_.strip()))
    else:
        raise ValueError(f"no expectation: {line}")


def points(line: str) -> Points:
    found = _SERIES.fullmatch(line)
    assert found is not None
    native = "{{" in found["points"]
    values = [] if native else parse_series_notation(found["points"])
    return Points(_labels(found["metric"]), values, native)


def _start_times(line: re.Match[str]) -> Points:
    """The line before that of a series, with the start timestamps of its samples as durations."""
    notation = re.sub(r"[0-9]+(?:ms|[smhd])", lambda one: str(milliseconds(one[0])), line[2])
    return Points(_labels(line[1]), parse_series_notation(notation))


def _labels(metric: str) -> Labels:
    if not metric or re.fullmatch(r"\{\s*\}", metric):
        return ()
    selector = parse(metric)
    assert isinstance(selector, VectorSelector)
    (matchers,) = selector.matcher_sets
    return tuple(sorted((m.name, m.value) for m in matchers if m.value))
