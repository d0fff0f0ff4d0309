"""The `incident_test` block of a test, read strictly, with every problem at its place."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any

from tocsin_alerting.incident_test.expectations import read_expectation
from tocsin_alerting.incident_test.script import (
    NOBODY_NAMED,
    Act,
    Answer,
    ChannelTrouble,
    ClockStep,
    Expire,
    IncidentTest,
    Mute,
    Restart,
    TakeOver,
    TimedAct,
)
from tocsin_alerting.incident_test.values import ValueReader, written
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import AlertMatcher, InvalidMatcher, parse_matcher
from tocsin_alerting.rules.rule_test_file import ReadTestPart
from tocsin_alerting.rules.yaml_reader import YamlReader
from tocsin_alerting.time_format import LAST_S, parse_duration, read_timestamp
from tocsin_alerting.yaml_document import Path
from tocsin_exporter.clock import STEP_MS

BLOCK_KEYS = ("start", "actions", "expect")
_ANSWER_KEYS: Mapping[str, tuple[str, ...]] = {
    "ack": ("by", "note"),
    "unack": ("by", "note"),
    "snooze": ("by", "note", "for", "until"),
    "resolve": ("by", "note", "cause", "false_positive"),
    "escalate": ("by", "note", "step"),
    "assign": ("by", "note", "to"),
    "comment": ("by", "note", "fields"),
}
_OTHER_KEYS: Mapping[str, tuple[str, ...]] = {
    "silence": ("by", "id", "for", "until", "until_resolved"),
    "maintenance": ("by", "id", "for", "until", "except"),
    "expire": ("by",),
    "channel": ("fails", "hangs", "works"),
    "restart": (),
    "clock": (),
    "override": ("by", "to", "for", "until"),
}
KEYS = {**_ANSWER_KEYS, **_OTHER_KEYS}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class IncidentTestReader:
    """Takes the blocks of one file's tests; `test` gives that of a test, when all are read."""

    def __init__(self) -> None:
        self._policy_files: dict[int, str] = {}
        self._tests: dict[int, IncidentTest] = {}

    @property
    def parts(self) -> Mapping[str, ReadTestPart]:
        return {"policy_file": self._policy_file, "incident_test": self._incident_test}

    def test(self, number: int) -> IncidentTest | None:
        return self._tests.get(number)

    def _policy_file(self, reading: YamlReader, path: Path, number: int) -> None:
        name = reading.text(path)
        file = FilePath(reading.document.file).parent / FilePath(name).expanduser()
        if name and not file.is_file():
            reading.wrong(path, f"there is no file {name}; correct the path")
        if "incident_test" not in reading.document.data["tests"][number]:
            reading.wrong(path, "policy_file is for incident_test, which is missing", key=True)
        self._policy_files[number] = str(file) if name else ""

    def _incident_test(self, reading: YamlReader, path: Path, number: int) -> None:
        values = ValueReader(reading, subset=_is_subset(reading, path))
        fields = reading.mapping(path, values.value(path), BLOCK_KEYS, "an incident_test")
        acts = _listed(reading, (*path, "actions"), fields, lambda at: _act(values, at))
        expected = _listed(
            reading, (*path, "expect"), fields, lambda at: read_expectation(values, at)
        )
        if not expected:
            reading.wrong(path, "an incident_test without expect finds nothing; add expectations")
        _check_ids(values, acts)
        self._tests[number] = IncidentTest(
            policy_file=self._policy_files.get(number, ""),
            place=values.place(path),
            start_ms=_start_ms(values, (*path, "start")),
            acts=tuple(sorted(acts, key=lambda timed: timed.at_ms)),
            expectations=tuple(expected),
            names=tuple(values.names),
        )


def _is_subset(reading: YamlReader, path: Path) -> bool:
    return reading.text((*path[:-1], "match")) == "subset"


def _listed(
    reading: YamlReader,
    path: Path,
    fields: Mapping[str, Any],
    read: Callable[[Path], Any],
) -> list[Any]:
    items = reading.sequence(path, fields.get(str(path[-1])), str(path[-1]))
    made = (read((*path, number)) for number in range(len(items)))
    return [one for one in made if one is not None]


def _start_ms(values: ValueReader, path: Path) -> int | None:
    text = values.reading.text(path)
    if not text:
        return None
    seconds = read_timestamp(text)
    if seconds is None or not 0 <= seconds <= LAST_S:
        why = f'"{text}" is neither Unix seconds nor like 2026-03-29T01:00:00+01:00'
        values.reading.wrong(path, why)
        return None
    return int(seconds) * 1000


def _act(values: ValueReader, path: Path) -> TimedAct | None:
    """One of `actions`: a time, what is done, and how."""
    verb = values.kind_of(path, KEYS, "an action")
    if verb is None:
        return None
    at_ms = values.time((*path, "at"))
    value = values.value(path)
    words = ", ".join(f"{key}: {written(one)}" for key, one in value.items() if key != "at")
    act = _READ[verb](values, path, at_ms) if verb in _READ else _answer(values, path, verb, at_ms)
    return TimedAct(at_ms, act, values.place(path), words)


def _answer(values: ValueReader, path: Path, verb: str, at_ms: int) -> Answer:
    reading = values.reading
    labels = values.labels((*path, verb))
    step: int | None = None
    if values.has((*path, "step")):
        step = reading.whole((*path, "step"))
    if verb == "assign" and not reading.text((*path, "to")):
        reading.wrong(path, 'assign needs "to": the contact who is to have it')
    return Answer(
        verb=Verb(verb),
        labels=labels,
        by=_by(values, path),
        note=reading.text((*path, "note")),
        until_ms=values.end(path, at_ms) if verb == "snooze" else None,
        step=step,
        to=values.name("contact", (*path, "to")) or "",
        cause=reading.text((*path, "cause")),
        false_positive=reading.truth((*path, "false_positive")),
        fields=reading.texts((*path, "fields"), "fields"),
    )


def _by(values: ValueReader, path: Path) -> str:
    return values.reading.text((*path, "by"), NOBODY_NAMED)


def _silence(values: ValueReader, path: Path, at_ms: int) -> Mute:
    over = values.reading.truth((*path, "until_resolved"))
    return Mute(
        id=_id(values, path, "silence"),
        matchers=_matchers(values, (*path, "silence")),
        until_ms=values.end(path, at_ms, needed=not over),
        by=_by(values, path),
        until_resolved=over,
    )


def _maintenance(values: ValueReader, path: Path, at_ms: int) -> Mute:
    return Mute(
        id=_id(values, path, "maintenance"),
        matchers=_matchers(values, (*path, "maintenance")),
        until_ms=values.end(path, at_ms),
        by=_by(values, path),
        except_matchers=_matchers(values, (*path, "except"), needed=False),
        window=True,
    )


def _id(values: ValueReader, path: Path, default: str) -> str:
    name = values.reading.text((*path, "id"), default)
    if not _NAME.fullmatch(name):
        why = f'"id" must be small letters, digits and dashes, not "{name}"'
        values.reading.wrong((*path, "id"), why)
    return name


def _matchers(values: ValueReader, path: Path, needed: bool = True) -> tuple[AlertMatcher, ...]:
    """A list of matchers, or one."""
    reading, value = values.reading, values.value(path)
    if needed and not value:
        reading.wrong(path, f'"{path[-1]}" needs matchers, as [\'alertname="EngineDown"\']')
    one = isinstance(value, str)
    items = [value] if one else reading.sequence(path, value, str(path[-1]))
    made = []
    for number in range(len(items)):
        at = path if one else (*path, number)
        try:
            made.append(parse_matcher(reading.text(at)))
        except InvalidMatcher as error:
            reading.wrong_at(at, error.offset, f"matcher {error.text}: {error.why}")
    return tuple(made)


def _expire(values: ValueReader, path: Path, at_ms: int) -> Expire:
    return Expire(values.reading.text((*path, "expire")), _by(values, path))


def _channel(values: ValueReader, path: Path, at_ms: int) -> ChannelTrouble:
    reading = values.reading
    given = [key for key in _OTHER_KEYS["channel"] if values.has((*path, key))]
    receiver = values.name("receiver", (*path, "channel")) or ""
    if len(given) != 1:
        reading.wrong(path, "say one of fails, hangs and works of the channel")
        return ChannelTrouble(receiver)
    at = (*path, given[0])
    if given[0] == "works":
        if values.value(at) is not True:
            reading.wrong(at, '"works" must be true: what was wrong is over')
        return ChannelTrouble(receiver, works=True)
    how = ("status", "retry_after") if given[0] == "fails" else ()
    reading.mapping(at, values.value(at), (*how, "times", "for", "until"), given[0])
    return ChannelTrouble(
        receiver,
        hangs=given[0] == "hangs",
        status=_status(values, (*at, "status")),
        retry_after=_seconds(values, (*at, "retry_after")),
        times=values.count((*at, "times")),
        until_ms=values.end(at, at_ms, needed=False),
    )


def _status(values: ValueReader, path: Path) -> int | None:
    if not values.has(path):
        return None
    status = values.reading.whole(path)
    if not 300 <= status <= 599:
        values.reading.wrong(path, f'"status" must be a reply that fails, 300 to 599, not {status}')
    return status


def _seconds(values: ValueReader, path: Path) -> str | None:
    """A duration as the header Retry-After has it."""
    wait_ms = values.reading.duration(path)
    return None if wait_ms is None else str(-(-wait_ms // 1000))


def _restart(values: ValueReader, path: Path, at_ms: int) -> Restart:
    at = (*path, "restart")
    values.reading.mapping(at, values.value(at), ("down_for",), "a restart")
    return Restart(values.reading.duration((*at, "down_for")) or 0)


def _clock(values: ValueReader, path: Path, at_ms: int) -> ClockStep:
    at = (*path, "clock")
    text = values.reading.text(at)
    try:
        delta_ms = parse_duration(text.removeprefix("-").removeprefix("+"))
    except ValueError:
        values.reading.wrong(at, f'"clock" must be a step like 1h or -30m, not "{text}"')
        return ClockStep(STEP_MS)
    if delta_ms < STEP_MS:
        why = f"a clock that is {text} off is drift, which is followed slowly; a step is 2s or more"
        values.reading.wrong(at, why)
    return ClockStep(-delta_ms if text.startswith("-") else delta_ms)


def _override(values: ValueReader, path: Path, at_ms: int) -> TakeOver:
    if not values.has((*path, "to")):
        values.reading.wrong(path, 'override needs "to": the contact who takes over')
    return TakeOver(
        schedule=values.name("schedule", (*path, "override")) or "",
        contact=values.name("contact", (*path, "to")) or "",
        until_ms=values.end(path, at_ms) or at_ms,
        by=_by(values, path),
    )


_READ: Mapping[str, Callable[[ValueReader, Path, int], Act]] = {
    "silence": _silence,
    "maintenance": _maintenance,
    "expire": _expire,
    "channel": _channel,
    "restart": _restart,
    "clock": _clock,
    "override": _override,
}


def _check_ids(values: ValueReader, acts: Iterable[TimedAct]) -> None:
    """Of two silences of one id nobody could tell which one ends."""
    known: set[str] = set()
    for timed in acts:
        if isinstance(timed.act, Mute):
            if timed.act.id in known:
                why = f'two silences have the id "{timed.act.id}"; give this one another "id"'
                values.wrong_place(timed.place, why)
            known.add(timed.act.id)
    for timed in acts:
        if isinstance(timed.act, Expire) and timed.act.id not in known:
            why = f'no silence has the id "{timed.act.id}"'
            values.wrong_near(timed.place, why, timed.act.id, known)
