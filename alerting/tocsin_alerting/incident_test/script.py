"""What an `incident_test` block says: what people and channels do, and what is expected.

All times are milliseconds since the start of the test, unless a name says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.alert_matcher import AlertMatcher
from tocsin_alerting.incidents.incident import IncidentState, Reason
from tocsin_alerting.rules.rule import FilePosition
from tocsin_alerting.rules.severity import Severity

NOBODY_NAMED = "somebody"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person does to the one open incident of which an alert has these labels.

    `until_ms` is for snooze, `step` for escalate, `to` for assign, `fields` for comment.
    """

    verb: Verb
    labels: Mapping[str, str]
    by: str = NOBODY_NAMED
    note: str = ""
    until_ms: int | None = None
    step: int | None = None
    to: str = ""
    cause: str = ""
    false_positive: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mute:
    """A silence, or with `window` an ad hoc maintenance window of that name."""

    id: str
    matchers: tuple[AlertMatcher, ...]
    until_ms: int | None
    by: str = NOBODY_NAMED
    except_matchers: tuple[AlertMatcher, ...] = ()
    window: bool = False
    until_resolved: bool = False


@dataclass(frozen=True, slots=True)
class Expire:
    """The end of the silence or window that was added as `id`."""

    id: str
    by: str = NOBODY_NAMED


@dataclass(frozen=True, slots=True)
class ChannelTrouble:
    """From now on every message to the receiver fails, or gets no response (`hangs`); `times` of
    them, until `until_ms`, or for ever. `works`: what was wrong is over.

    `status` is the reply of its protocol (HTTP, SMTP); without one the connection breaks.
    """

    receiver: str
    works: bool = False
    hangs: bool = False
    status: int | None = None
    retry_after: str | None = None
    times: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """The agent is killed, and started again after `down_ms`."""

    down_ms: int


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The wall clock is set forward, or back when it is negative."""

    delta_ms: int


@dataclass(frozen=True, slots=True)
class TakeOver:
    """`contact` is on call in the schedule until then, whoever would be."""

    schedule: str
    contact: str
    until_ms: int
    by: str = NOBODY_NAMED


Act = Answer | Mute | Expire | ChannelTrouble | Restart | ClockStep | TakeOver


@dataclass(frozen=True, slots=True)
class TimedAct:
    at_ms: int
    act: Act
    place: FilePosition
    words: str


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """From one time to another, both included."""

    first_ms: int
    last_ms: int

    def covers(self, at_ms: int) -> bool:
        return self.first_ms <= at_ms <= self.last_ms


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What a message must have; None and empty: anything. Without `reasons` it must be a page.

    `alertname` is that of one of its alerts; `labels` and `annotations` are all that one of them
    has, or with `subset` some of it.
    """

    receiver: str | None = None
    contact: str | None = None
    via: str | None = None
    reasons: frozenset[Reason] = frozenset()
    step: int | None = None
    severity: Severity | None = None
    contains: str = ""
    alertname: str = ""
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    subset: bool = False


@dataclass(frozen=True, slots=True)
class MessagesExpected:
    """At least and at most so many messages in the time."""

    window: TimeWindow
    wanted: MessageFilter
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class IncidentExpected:
    """How the incident stands at a time of which an alert has `labels`; None: in whatever way.
    `none`: there is no such incident that is not over."""

    at_ms: int
    labels: Mapping[str, str]
    none: bool = False
    number: int | None = None
    state: IncidentState | None = None
    owner: str | None = None
    step: int | None = None
    severity: Severity | None = None
    policy: str | None = None
    muted: bool | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """`words` is how a failure names it."""

    wanted: MessagesExpected | IncidentExpected
    place: FilePosition
    words: str

    @property
    def first_ms(self) -> int:
        return (
            self.wanted.at_ms
            if isinstance(self.wanted, IncidentExpected)
            else self.wanted.window.first_ms
        )

    @property
    def last_ms(self) -> int:
        return (
            self.wanted.at_ms
            if isinstance(self.wanted, IncidentExpected)
            else self.wanted.window.last_ms
        )


@dataclass(frozen=True, slots=True)
class NameUsed:
    """A name that the configuration must have: `kind` is receiver, contact, schedule, policy or
    way."""

    kind: str
    name: str
    place: FilePosition


@dataclass(frozen=True, slots=True)
class IncidentTest:
    """`policy_file` is the path of a configuration, "" for the built-in one."""

    policy_file: str
    place: FilePosition
    start_ms: int | None
    acts: tuple[TimedAct, ...]
    expectations: tuple[Expectation, ...]
    names: tuple[NameUsed, ...]

    @property
    def end_ms(self) -> int:
        ends = [expectation.last_ms for expectation in self.expectations]
        for timed in self.acts:
            down_ms = timed.act.down_ms if isinstance(timed.act, Restart) else 0
            ends.append(timed.at_ms + down_ms)
        return max(ends, default=0)
