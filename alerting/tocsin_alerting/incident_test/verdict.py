"""Whether what was expected was got; and if not, both as one timeline."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import message_templates
from tocsin_alerting.incident_test.act import has_labels
from tocsin_alerting.incident_test.run import Happening, Recording, message_words, whom
from tocsin_alerting.incident_test.script import (
    Expectation,
    IncidentExpected,
    IncidentTest,
    MessageFilter,
    MessagesExpected,
)
from tocsin_alerting.incident_test.virtual_time import VirtualTime
from tocsin_alerting.incidents.calendar_times import time_zone
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import NOTICE_REASONS
from tocsin_alerting.incidents.roster import Roster
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.rules.rule import FilePosition
from tocsin_alerting.rules.rule_test import RuleTestFailure
from tocsin_alerting.time_format import format_duration

MOST_GOT = 300  # lines of a timeline; the last of them say how it ended
_COMPARED = ("number", "state", "owner", "step", "severity", "muted", "source")
_MISSED = "!"


@dataclass(frozen=True, slots=True)
class TimelineLine:
    """One line of the timeline; `rank` orders those of one time."""

    at_ms: int
    rank: int
    text: str
    missed: bool = False


class Judge:
    """Compares a recording with what the test of that `name` expects."""

    def __init__(
        self, name: str, script: IncidentTest, config: Config, roster: Roster, time: VirtualTime
    ) -> None:
        self._name, self._script = name, script
        self._config, self._roster, self._time = config, roster, time
        self._zone = time_zone(config.time_zone)

    @cached_property
    def _templates(self) -> MessageTemplates:
        return message_templates(self._config)

    def failures(self, recording: Recording) -> list[RuleTestFailure]:
        """Nothing, or one that says all."""
        missed: dict[int, str] = {}
        for number, expectation in enumerate(self._script.expectations):
            if why := self._why_not(expectation, recording):
                missed[number] = why
        if not missed and not recording.troubles:
            return []
        lines = [f"    name: {self._name},"] if self._name else []
        lines.append(f"    incident_test: {_count(len(missed), len(self._script.expectations))}")
        lines += [
            f"      {_at(trouble.place)}: {trouble.why} (at {format_duration(trouble.at_ms)})"
            for trouble in recording.troubles
        ]
        for number, why in missed.items():
            expectation = self._script.expectations[number]
            lines.append(
                f"      {_at(expectation.place)}: expected {_when(expectation)} "
                f"{expectation.words}; got {why}"
            )
        lines += self._timeline(recording, missed)
        return [RuleTestFailure("\n".join(lines), self._script.place)]

    def _why_not(self, expectation: Expectation, recording: Recording) -> str:
        """What was got instead; "" when it is as expected."""
        wanted = expectation.wanted
        if isinstance(wanted, IncidentExpected):
            return self._incident_trouble(wanted, recording.incidents.get(wanted.at_ms, ()))
        return self._messages_trouble(wanted, recording.happenings)

    def _messages_trouble(self, wanted: MessagesExpected, got: Sequence[Happening]) -> str:
        matching = [
            one
            for one in got
            if one.notification is not None
            and wanted.window.covers(one.at_ms)
            and self._matches(wanted.wanted, one.notification)
        ]
        most = len(matching) if wanted.most is None else wanted.most
        if wanted.least <= len(matching) <= most:
            return ""
        if not matching:
            return "none"
        times = ", ".join(format_duration(one.at_ms) for one in matching[:5])
        more = ", ..." if len(matching) > 5 else ""
        return f"{len(matching)}, at {times}{more}"

    def _matches(self, wanted: MessageFilter, sent: Notification) -> bool:
        kind = sent.reason in wanted.reasons if wanted.reasons else _is_page(sent)
        return (
            kind
            and wanted.receiver in (None, sent.receiver)
            and wanted.contact in (None, sent.contact)
            and wanted.step in (None, sent.step)
            and wanted.severity in (None, sent.severity)
            and (wanted.via is None or self._came_by(wanted.via, sent))
            and _has_alert(wanted, sent)
            and (not wanted.contains or wanted.contains in self._text(sent))
        )

    def _came_by(self, way: str, sent: Notification) -> bool:
        contact = self._roster.contacts.get(sent.contact)
        addressee = contact.ways.get(way) if contact else None
        return addressee is not None and addressee.receiver == sent.receiver

    def _text(self, sent: Notification) -> str:
        return f"{self._templates.subject(sent)}\n{self._templates.text(sent)}"

    def _incident_trouble(self, wanted: IncidentExpected, standing: Iterable[Incident]) -> str:
        matching = [one for one in standing if has_labels(one, wanted.labels)]
        if wanted.none:
            present = [one for one in matching if one.state is not IncidentState.CLOSED]
            return f"#{present[0].number}, which is {present[0].state}" if present else ""
        if not matching:
            return "no such incident"
        newest = matching[-1]
        differing = list(_differences(wanted, newest))
        return f"#{newest.number} with {', '.join(differing)}" if differing else ""

    def _timeline(self, recording: Recording, missed: Mapping[int, str]) -> Iterator[str]:
        """Expected and got in the order of time."""
        lines = [
            TimelineLine(one.first_ms, 0, _expected_words(one), number in missed)
            for number, one in enumerate(self._script.expectations)
        ]
        lines += _got_lines(recording.happenings)
        lines.sort(key=lambda line: (line.at_ms, line.rank))
        width = max(len(format_duration(line.at_ms)) for line in lines)
        yield f"      timeline (missed is what has a {_MISSED}; the clock is in {self._zone}):"
        for line in lines:
            mark = _MISSED if line.missed else " "
            at = format_duration(line.at_ms).rjust(width)
            yield f"      {mark} {at}  {self._clock_text(line.at_ms)}  {line.text}"

    def _clock_text(self, at_ms: int) -> str:
        seconds = self._time.wall_ms(at_ms) / 1000
        return f"{datetime.fromtimestamp(seconds, UTC).astimezone(self._zone):%a %H:%M:%S}"


def _got_lines(happenings: Sequence[Happening]) -> list[TimelineLine]:
    """What was got; a message to several is one line. Of very many lines the first and the last."""
    lines: list[TimelineLine] = []
    for (at_ms, words, done), several in groupby(happenings, key=_alike):
        mark = "act" if done else "got"
        people = ", ".join(whom(one.notification) for one in several if one.notification)
        lines.append(
            TimelineLine(at_ms, 1, f"{mark}  {words} to {people}" if people else f"{mark}  {words}")
        )
    left_out = len(lines) - MOST_GOT
    if left_out <= 0:
        return lines
    head, tail = lines[: MOST_GOT // 2], lines[-(MOST_GOT // 2) :]
    return [*head, TimelineLine(head[-1].at_ms, 1, f"...  {left_out} more lines"), *tail]


def _alike(one: Happening) -> tuple[int, str, bool]:
    sent = one.notification
    return one.at_ms, one.words if sent is None else message_words(sent), one.done


def _is_page(sent: Notification) -> bool:
    return sent.reason not in NOTICE_REASONS


def _has_alert(wanted: MessageFilter, sent: Notification) -> bool:
    """Whether one of its alerts is as wanted."""

    def fits(found: Mapping[str, str], named: Mapping[str, str] | None) -> bool:
        if named is None:
            return True
        return named.items() <= found.items() if wanted.subset else dict(named) == dict(found)

    if not wanted.alertname and wanted.labels is None and wanted.annotations is None:
        return True
    return any(
        wanted.alertname in ("", alert.labels.get("alertname"))
        and fits(alert.labels, wanted.labels)
        and fits(alert.annotations, wanted.annotations)
        for alert in sent.alerts
    )


def _differences(wanted: IncidentExpected, got: Incident) -> Iterator[str]:
    for name in _COMPARED:
        value, found = getattr(wanted, name), getattr(got, name)
        if value is not None and value != found:
            yield f"{name} {_plain(found)}"
    if wanted.policy is not None and wanted.policy != got.policy.name:
        yield f"policy {got.policy.name}"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or "nobody"


def _count(missed: int, of: int) -> str:
    return f"{missed} of {of} expectations missed" if missed else "an action or a rule failed"


def _at(place: FilePosition) -> str:
    return f"{place.file}:{place.line}:{place.column}"


def _when(expectation: Expectation) -> str:
    first, last = expectation.first_ms, expectation.last_ms
    if first == last:
        return f"at {format_duration(first)}"
    return f"at {format_duration(first)}..{format_duration(last)}"


def _expected_words(expectation: Expectation) -> str:
    first, last = expectation.first_ms, expectation.last_ms
    until = "" if first == last else f" until {format_duration(last)}"
    return f"exp  {expectation.words}{until} (line {expectation.place.line})"
