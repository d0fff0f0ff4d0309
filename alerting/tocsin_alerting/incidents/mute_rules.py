"""Which silences and maintenance windows hold now, and which alerts they mute."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.maintenance import MaintenanceWindow
from tocsin_alerting.incidents.silences import KEPT_MS, Silence, SilenceState
from tocsin_alerting.rules.alert import Alert

MUTE_KINDS = ("inhibited", "silence", "maintenance", "storm")
"""What may stand before the colon in the name of a mute."""

NOTHING = frozenset[str]()
MAX_REMEMBERED = 50_000  # alerts whose mutes are remembered


class MuteRule(Protocol):
    """A silence or a window."""

    @property
    def mute_name(self) -> str: ...
    def active_at(self, now_ms: int) -> bool: ...
    def next_change_ms(self, now_ms: int) -> int | None: ...
    def matches(self, labels: Mapping[str, str]) -> bool: ...


class MuteRules:
    """`refresh` has to be called whenever the time moves: until then those hold that did."""

    def __init__(self, windows: tuple[MaintenanceWindow, ...] = ()) -> None:
        self.silences: dict[str, Silence] = {}
        self.windows = windows
        self._active: tuple[MuteRule, ...] = ()
        self._names: dict[str, frozenset[str]] = {}  # by the fingerprint of an alert
        self._next_change_ms: int | None = 0

    def __bool__(self) -> bool:
        """Whether any holds."""
        return bool(self._active)

    @property
    def next_change_ms(self) -> int | None:
        """When `refresh` will find something new; 0: at once, None: never."""
        return self._next_change_ms

    def set_windows(self, windows: tuple[MaintenanceWindow, ...]) -> None:
        """The configuration has these from now on."""
        self.windows, self._next_change_ms = windows, 0

    def put(self, silences: Iterable[Silence]) -> None:
        self.silences |= {silence.id: silence for silence in silences}
        self._next_change_ms = 0

    def load(self, saved: Iterable[Silence]) -> None:
        """What came since the start is newer."""
        self.put([silence for silence in saved if silence.id not in self.silences])

    def shift(self, delta_ms: int) -> dict[str, Silence]:
        """Live by a clock that reads `delta_ms` more; the silences, which all moved."""
        self.put([silence.shifted(delta_ms) for silence in self.silences.values()])
        return self.silences

    def refresh(self, now_ms: int) -> bool:
        """Whether others hold now than did."""
        if self._next_change_ms is None or now_ms < self._next_change_ms:
            return False
        rules: list[MuteRule] = [*self.silences.values(), *self.windows]
        changes = (rule.next_change_ms(now_ms) for rule in rules)
        self._next_change_ms = min((at for at in changes if at is not None), default=None)
        active = tuple(rule for rule in rules if rule.active_at(now_ms))
        if active == self._active:
            return False
        self._active, self._names = active, {}
        return True

    def names_of(self, alert: Alert) -> frozenset[str]:
        """The names of all that mutes the alert now."""
        if not self._active:
            return NOTHING
        names = self._names.get(alert.fingerprint)
        if names is None:
            if len(self._names) >= MAX_REMEMBERED:
                self._names.clear()
            labels = dict(alert.labels)
            names = frozenset(rule.mute_name for rule in self._active if rule.matches(labels))
            self._names[alert.fingerprint] = names
        return names

    def silenced(self, incident: Incident) -> frozenset[str]:
        """The fingerprints of those of its alerts that are muted, also of those that ended."""
        if not self._active:
            return NOTHING
        members = incident.members.items()
        return frozenset(name for name, member in members if self.names_of(member.alert))

    def names(self, incident: Incident) -> frozenset[str]:
        """What mutes at least one of its silenced alerts."""
        silenced = (incident.members[name] for name in incident.silenced)
        return NOTHING.union(*(self.names_of(member.alert) for member in silenced))

    def states(self, now_ms: int) -> dict[SilenceState, int]:
        """How many silences are in each state; windows are none."""
        counts = dict.fromkeys(SilenceState, 0)
        for silence in self.silences.values():
            if not silence.window:
                counts[silence.state(now_ms)] += 1
        return counts

    def forget_old(self, now_ms: int) -> list[Silence]:
        """Those that ended long ago, and are forgotten."""
        before_ms = now_ms - KEPT_MS
        old = [silence for silence in self.silences.values() if silence.ends_at_ms < before_ms]
        for silence in old:
            del self.silences[silence.id]
        return old
