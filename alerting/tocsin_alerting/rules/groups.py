"""All groups of the configuration: when each is due, what each says, and what a restart needs."""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from tocsin_alerting.rules.alert import (
    RULES,
    Alert,
    AlertEvent,
    AlertState,
    EventKind,
    rules_origin,
)
from tocsin_alerting.rules.alerting import SLICE_ALERTS
from tocsin_alerting.rules.dependencies import connecting
from tocsin_alerting.rules.evaluation import EvaluationDeps, evaluate_rule
from tocsin_alerting.rules.instance_journal import InstanceJournal, InstanceRow
from tocsin_alerting.rules.moves import (
    alerts_of_rows,
    by_identity,
    identity,
    new_states,
    rule_moves,
    unchanged,
)
from tocsin_alerting.rules.restore import inherited_origins
from tocsin_alerting.rules.rule import Rule, RuleFile, RuleGroup
from tocsin_alerting.rules.state import GroupState, RuleState
from tocsin_alerting.rules.unknown_alerts import RULES_JOB, UnknownAlert
from tocsin_exporter.slices import Work, at_once, parts
from tocsin_exporter.snapshot import Source

log = logging.getLogger(__name__)

# How wrong "down at" may be after a crash, for alerts that wait for `for`, when the store has lost
# what was written of them.
HEARTBEAT_MS = 10_000
GroupKey = tuple[str, str]


def slot_ms(interval_ms: int, now_ms: int, phase_ms: int = 0) -> int:
    """The latest slot at or before `now_ms`: `phase_ms` after a multiple of the interval in Unix
    time."""
    return now_ms - (now_ms - phase_ms) % interval_ms


def missed(previous_ms: int | None, slot: int, interval_ms: int) -> int:
    """How many slots between the last evaluation and this one were skipped; they stay skipped."""
    if previous_ms is None:
        return 0
    return max(0, (slot - previous_ms) // interval_ms - 1)


async def no_pause() -> None:
    """No pause between the rules of a group."""


def no_phase(progress: GroupState) -> int:
    return 0  # every group runs at the multiples of its interval


@dataclass(frozen=True, slots=True)
class _RemovedRule:
    """What a removed rule wrote; it goes stale when `due_ms` comes."""

    source: Source
    due_ms: int


class Groups:
    """The groups by (file, name). Owned by one task: `evaluate` may be awaited for many groups.

    `deps_of` says what a group is evaluated with, where that is not `deps` for all of them.
    `phase_of` says when a group comes, and after each of its evaluations, how long after the
    multiples of its interval the next ones are.
    """

    def __init__(
        self,
        deps: EvaluationDeps,
        interval_ms: int,
        deps_of: Callable[[RuleGroup], EvaluationDeps] | None = None,
        phase_of: Callable[[GroupState], int] = no_phase,
    ) -> None:
        self.deps, self._phase_of = deps, phase_of
        self._deps_of = deps_of or (lambda group: deps)
        self.interval_ms = interval_ms
        self._groups: dict[GroupKey, GroupState] = {}
        self._rows: dict[str, list[InstanceRow]] = {}  # by origin
        self._inherited_origins: dict[str, str] = {}
        self._history_ms: int | None = None
        self._written_ms: Callable[[Source], int | None] = lambda source: None
        self._active_events: dict[str, list[AlertEvent]] = {}
        self._leaving: list[_RemovedRule] = []
        self._forgotten: set[GroupKey] = set()
        self._turns = count(1)
        self.unread = frozenset[str]()  # files that could not be read: of their rules, who knows?

    def take(self, deps: EvaluationDeps, deps_of: Callable[[RuleGroup], EvaluationDeps]) -> None:
        """The next evaluations are made with these."""
        self.deps, self._deps_of = deps, deps_of

    @property
    def all(self) -> Sequence[GroupState]:
        return tuple(self._groups.values())

    def remember(
        self,
        rows: Iterable[InstanceRow],
        history_ms: int | None = None,
        written_ms: Callable[[Source], int | None] = lambda source: None,
        events: Iterable[AlertEvent] = (),
    ) -> None:
        """The journal's rows of the last run, and the time of the newest sample that the store has
        of it, if any; call it before the first `load`.

        `written_ms` says when the last run last wrote samples of a rule, by the rule's source:
        until then its alerts waited or fired, though the rows are older. `events` is what the open
        incidents say of alerts: a crash may have cost the rows of what people were told.
        """
        self._history_ms, self._written_ms = history_ms, written_ms
        self._active_events = defaultdict(list)
        for event in events:
            self._active_events[event.origin].append(event)
        self._rows = defaultdict(list)
        for row in rows:
            source = Source(RULES_JOB, f"{row.file};{row.rule}")
            waits = row.alert is not None and row.alert.state is AlertState.PENDING
            seen_ms = max(row.seen_ms, (written_ms(source) if waits else None) or 0)
            fresh_row = replace(row, seen_ms=seen_ms)
            self._rows[rules_origin(row.file, row.rule)].append(fresh_row)

    def load(
        self, files: Iterable[RuleFile], now_ms: int, unread: Iterable[str] = ()
    ) -> list[AlertEvent]:
        """As `loading`, without a pause."""
        return at_once(self.loading(files, now_ms, unread))

    def loading(
        self, files: Iterable[RuleFile], now_ms: int, unread: Iterable[str] = ()
    ) -> Work[list[AlertEvent]]:
        """Start or reload with these files. No rule is to be evaluated meanwhile.

        An equal group goes on untouched. In a changed one a rule keeps its state when its name and
        labels are the same, the k-th with the k-th; so does one that has moved to another group or
        file, since the last run too. Gives an event for each alert whose rule is gone, from the
        last run too. Of `unread` files nobody knows: what the last run said of theirs is unknown,
        and kept for when they can be read.
        """
        wanted = {group.key: group for file in files for group in file.groups}
        arriving = rule_moves(self._groups, wanted)[1]
        fresh = yield from new_states(wanted, arriving)
        before, self._groups = self._groups, {}
        self.unread = frozenset(unread)
        leaving, arriving = rule_moves(before, wanted)
        self._remember_leaving(leaving, now_ms)
        self._inherited_origins = unchanged(self._inherited(arriving), leaving)
        for key, group in wanted.items():
            self._groups[key] = self._loaded(group, before.get(key), now_ms, fresh)
        if [*map(id, before.values())] != [*map(id, self._groups.values())]:
            rules = [rule for group_state in self._groups.values() for rule in group_state.rules]
            yield from connecting(rules, self._turns)
        removed = {key: group for key, group in before.items() if key not in wanted}
        for group_state in removed.values():
            self._remove(group_state.rules, group_state.interval_ms, now_ms)
        return self._end_orphans(removed, now_ms)

    def lost(self, files: Iterable[RuleFile]) -> list[RuleState]:
        """The rules with alerts that a reload with these files would end."""
        wanted = {group.key: group for file in files for group in file.groups}
        leaving, arriving = rule_moves(self._groups, wanted)
        saved = {rule.origin: alerts_of_rows(rule.instance_rows()) for rule in leaving}
        saved = {origin: alerts for origin, alerts in saved.items() if alerts}
        kept = unchanged(inherited_origins(arriving, saved), leaving).values()
        return [rule for rule in leaving if rule.origin in saved.keys() - kept]

    def current(self, progress: GroupState) -> GroupState | None:
        """The state of the group as it is loaded now; None when it is gone."""
        return self._groups.get(progress.group.key)

    def recall(
        self, active_events: Iterable[AlertEvent], rows: Iterable[InstanceRow] = ()
    ) -> list[AlertEvent]:
        """What people were told of and the rows of the last run, by a journal that could not be
        read at the start: the rules take both up with their next evaluation. What waited is past
        for a rule that has run since. Gives what is of no rule here."""
        self.remember(rows, self._history_ms, self._written_ms, active_events)
        for group in self._groups.values():
            group.saved = None
            for rule in group.rules:
                late = self._remembered(group.group, rule.rule, rule.origin)
                rule.rows += tuple(row for row in late if row.holds or not rule.evaluated_ms)
        left = self._active_events.items()
        unclaimed = [
            event for name, several in left if not self.is_unread(name) for event in several
        ]
        self._end_orphans((), 0)
        return unclaimed

    def next_due(self, now_ms: int) -> tuple[int, list[GroupState]]:
        """The next slot that some group has not begun, and the groups that have it.

        It is not after `now_ms` when a group is late: one whose slot came while another ran must
        not be passed over. Without groups, a slot of the global interval and nobody.
        """
        slots: dict[int, list[GroupState]] = defaultdict(list)
        for progress in self._groups.values():
            slots[_due_ms(progress, now_ms)].append(progress)
        first = min(slots, default=now_ms + self.interval_ms)
        return first, slots.get(first, [])

    def due(self, now_ms: int) -> list[GroupState]:
        """Every group whose slot has come and was not begun."""
        return [group for group in self._groups.values() if _due_ms(group, now_ms) <= now_ms]

    def slot(self, progress: GroupState, now_ms: int) -> int:
        """The slot that an evaluation which is late, at `now_ms`, is for."""
        return slot_ms(progress.interval_ms, now_ms, progress.phase_ms)

    async def evaluate(
        self,
        progress: GroupState,
        at_ms: int,
        read_ms: int = 0,
        pause: Callable[[], Awaitable[None]] = no_pause,
    ) -> list[AlertEvent]:
        """Run the group's rules in order at `at_ms`; what changed, in that order.

        They read the samples up to `read_ms`, where that is later: a reading for `at_ms` may have
        begun late. `pause` is awaited before each rule. Never raises: a rule that fails is told in
        its progress and by events of kind unknown.
        """
        progress.begun_ms, loaded_ms = at_ms, progress.loaded_ms
        started = self.deps.seconds()
        progress.evaluations += 1
        progress.missed += missed(progress.evaluated_ms, at_ms, progress.interval_ms)
        events: list[AlertEvent] = []
        deps = self._deps_of(progress.group)
        for rule in progress.rules:
            await pause()
            changed = await evaluate_rule(rule, progress.group, at_ms, deps, read_ms)
            origin = rule.origin
            for part in parts(changed, SLICE_ALERTS):
                await pause()
                events.extend(replace(event, origin=origin) for event in part)
        moved_ms = progress.loaded_ms - loaded_ms  # the clock was set meanwhile
        progress.evaluated_ms = at_ms + moved_ms
        progress.phase_ms = self._phase_of(progress)
        progress.evaluation_seconds = self.deps.seconds() - started
        self._end_leaving(at_ms)
        return events

    async def persist(self, progress: GroupState, journal: InstanceJournal) -> bool:
        """Save the group's rows when they changed; True when it did.

        Call it after the events of `evaluate` are safe: a crash in between repeats an event, which
        is harmless, and never loses one. While an alert waits, its time is kept fresh as well.
        """
        if self._groups.get(progress.group.key, progress) is not progress:
            return False  # a reload came meanwhile: it has all that this one knew
        shape, now_ms = _lasting_rows(progress), progress.evaluated_ms or 0
        late = _has_waiting(progress) and now_ms - (progress.saved_ms or 0) >= HEARTBEAT_MS
        if shape == progress.saved and not late and not self._forgotten:
            return False
        forgotten, self._forgotten = self._forgotten - {progress.group.key}, set()
        for key in sorted(forgotten):
            await journal.save(*key, [] if key not in self._groups else _rows(self._groups[key]))
        await journal.save(*progress.group.key, _rows(progress))
        progress.saved, progress.saved_ms = shape, now_ms
        return True

    def shift(self, delta_ms: int) -> None:
        """The wall clock was set by `delta_ms`: every time moves with it, and nothing else does."""
        for progress in self._groups.values():
            progress.shift(delta_ms)
        self._leaving = [
            replace(removed, due_ms=removed.due_ms + delta_ms) for removed in self._leaving
        ]

    def _remember_leaving(self, leaving: Iterable[RuleState], now_ms: int) -> None:
        """What these rules say, for the same rules elsewhere; the store has all that they wrote.
        What waits is watched over until now: its wait knows no gap."""
        for rule in leaving:
            if rows := rule.instance_rows():
                self._rows[rule.origin] = [_watched_until(row, now_ms) for row in rows]
                self._history_ms = now_ms

    def _end_orphans(self, removed: Iterable[GroupKey], now_ms: int) -> list[AlertEvent]:
        """The rows that no rule has taken: of unread files they stay, and what fired is unknown."""
        unread = [origin for origin in self._rows.keys() | self._active_events.keys()
                  if self.is_unread(origin)]  # fmt: skip
        kept = {origin: self._rows.pop(origin, []) for origin in unread}
        kept_events = {origin: self._active_events.get(origin, []) for origin in unread}
        orphans = [row for rows in self._rows.values() for row in rows]
        self._forgotten |= {*removed, *((row.file, row.group) for row in orphans)}
        self._rows = defaultdict(list, kept)
        self._active_events = kept_events
        return [*_removed(orphans, now_ms), *_unread(kept, kept_events, now_ms)]

    def is_unread(self, origin: str) -> bool:
        """Whether it is a rule of a file that could not be read."""
        return any(origin.startswith(rules_origin(file, "")) for file in self.unread)

    def _loaded(
        self,
        group: RuleGroup,
        before: GroupState | None,
        now_ms: int,
        fresh: Mapping[str, RuleState],
    ) -> GroupState:
        interval_ms = group.interval_ms or self.interval_ms
        if before is not None and before.group == group and before.interval_ms == interval_ms:
            return before
        old = by_identity(before.rules if before else ())
        rules = [self._carried(group, rule, old, fresh) for rule in group.rules]
        kept = {id(rule) for rule in rules}
        if before is None:
            saved: list[object] | None = None if any(rule.rows for rule in rules) else []
            new = GroupState(group, interval_ms, rules, now_ms, saved=saved)
            new.phase_ms = self._phase_of(new)
            return new
        gone = [rule for rule in before.rules if id(rule) not in kept]
        self._remove(gone, interval_ms, now_ms)
        return replace(before, group=group, interval_ms=interval_ms, rules=rules, loaded_ms=now_ms)

    def _carried(
        self,
        group: RuleGroup,
        rule: Rule,
        old: Mapping[object, list[RuleState]],
        fresh: Mapping[str, RuleState],
    ) -> RuleState:
        same = old.get(identity(rule))
        if not same:
            return self._restarted(group, fresh[rules_origin(group.file, rule.uid)])
        progress = same.pop(0)
        source = progress.source
        progress.reload(rule)
        progress.interval_ms = group.interval_ms or self.interval_ms
        if progress.source != source and progress.written:
            self._leaving.append(_RemovedRule(source, progress.evaluated_ms or 0))
            progress.written = False
        return progress

    def _inherited(self, rules: Mapping[str, Rule]) -> dict[str, str]:
        """By the origin of each rule the one that it had before, if it had alerts then; that of a
        rule which moved is forgotten in the journal."""
        saved: dict[str, list[Alert]] = defaultdict(list)
        for origin, rows in self._rows.items():
            saved[origin] += alerts_of_rows(rows)
        for origin, events in self._active_events.items():
            if origin.startswith(RULES):
                saved[origin] += [event.alert for event in events]
        inherited = inherited_origins(rules, saved)
        moved = (self._rows.get(old, ()) for new, old in inherited.items() if new != old)
        self._forgotten |= {(row.file, row.group) for rows in moved for row in rows}
        return inherited

    def _restarted(self, group: RuleGroup, fresh: RuleState) -> RuleState:
        """As the last run left it, which may have had it elsewhere."""
        origin = fresh.origin
        before = self._inherited_origins.get(origin, "")
        source = (before or origin).removeprefix(RULES)
        fresh.rows = self._remembered(group, fresh.rule, before)
        fresh.interval_ms = group.interval_ms or self.interval_ms
        fresh.history_ms = self._history_ms
        fresh.complete_ms = self._written_ms(Source(RULES_JOB, source))
        fresh.former_origins = (before,) if before not in ("", origin) else ()
        return fresh

    def _remembered(self, group: RuleGroup, rule: Rule, before: str) -> tuple[InstanceRow, ...]:
        """The rows of the last run that are of `before`, an origin, as rows of `rule`."""
        rows = [
            replace(row, file=group.file, group=group.name, rule=rule.uid)
            for row in self._rows.pop(before, ())
        ]
        events = self._active_events.pop(before, ())
        known = {row.fingerprint for row in rows if row.holds}
        event_rows = [
            _row(group, rule, event) for event in events if event.alert.fingerprint not in known
        ]
        names = {row.fingerprint for row in event_rows}
        return (*(row for row in rows if row.fingerprint not in names), *event_rows)

    def _remove(self, rules: Iterable[RuleState], interval_ms: int, now_ms: int) -> None:
        """Two intervals pass before the series go stale: a rule may only have moved."""
        for rule in rules:
            rule.removed = True
            rule.alerting_rules, rule.behind = {}, ()  # which hold this rule, and so each other
            if rule.written:
                self._leaving.append(_RemovedRule(rule.source, now_ms + 2 * interval_ms))

    def _end_leaving(self, at_ms: int) -> None:
        if not self._leaving:
            return
        taken = {rule.source for group in self._groups.values() for rule in group.rules}
        due = [removed for removed in self._leaving if removed.due_ms <= at_ms]
        self._leaving = [removed for removed in self._leaving if removed.due_ms > at_ms]
        for leaving in due:
            try:
                if leaving.source not in taken:
                    self.deps.write(leaving.source, at_ms, ())
            except Exception:  # why: its series age out, and the events of this evaluation count
                log.exception("failed to mark the series of a removed rule stale")


def _due_ms(progress: GroupState, now_ms: int) -> int:
    """The latest slot, if the group has not begun one since, else the next."""
    slot = slot_ms(progress.interval_ms, now_ms, progress.phase_ms)
    last_ms = progress.loaded_ms if progress.begun_ms is None else progress.begun_ms
    return slot if slot > last_ms else slot + progress.interval_ms


def _watched_until(row: InstanceRow, now_ms: int) -> InstanceRow:
    """The row of a rule that a reload takes away now, with `for` counted up to now."""
    waits = row.alert is not None and row.alert.state is AlertState.PENDING
    return replace(row, seen_ms=max(row.seen_ms, now_ms)) if waits else row


def _rows(progress: GroupState) -> list[InstanceRow]:
    return [row for rule in progress.rules for row in rule.instance_rows()]


def _row(group: RuleGroup, rule: Rule, event: AlertEvent) -> InstanceRow:
    """Of an alert that people were told of."""
    alert = event.alert
    if event.kind is EventKind.UNKNOWN or alert.state is not AlertState.FIRING:
        unknown_alert = UnknownAlert(alert, event.at_ms)
        return InstanceRow(*group.key, rule.uid, event.at_ms, unknown_alert=unknown_alert)
    return InstanceRow(*group.key, rule.uid, alert.fired_at_ms or event.at_ms, alert)


def _unread(
    rows: Mapping[str, Sequence[InstanceRow]],
    events: Mapping[str, Sequence[AlertEvent]],
    now_ms: int,
) -> Iterator[AlertEvent]:
    """What people were told of by rules of which nobody knows any more."""
    why = "the file of its rule cannot be read"
    for origin in rows:
        known = {row.fingerprint: row for row in rows[origin]}
        for row in known.values():
            if row.holds:
                (alert,) = alerts_of_rows([row])
                yield AlertEvent(EventKind.UNKNOWN, alert, now_ms, why, origin)
        for event in events[origin]:
            if event.alert.fingerprint not in known:
                yield AlertEvent(EventKind.UNKNOWN, event.alert, now_ms, why, origin)


def _removed(rows: Iterable[InstanceRow], now_ms: int) -> Iterable[AlertEvent]:
    """Whom people were told of, and nobody will clear any more."""
    for row in rows:
        alert = row.alert
        if row.unknown_alert is not None and not row.unknown_alert.over:
            alert = row.unknown_alert.alert
        elif alert is None or alert.state is not AlertState.FIRING:
            continue
        reason = f"rule {row.rule} is no longer in {row.file}"
        origin = rules_origin(row.file, row.rule)
        yield AlertEvent(EventKind.REMOVED, alert, now_ms, reason, origin)


def _lasting_rows(progress: GroupState) -> list[object]:
    """The group's rows without what changes at every evaluation and is made anew by the next."""
    return [
        (
            rule.rule.uid,
            rule.rows,
            rule.gaps,
            frozenset(rule.measured_seen),
            [_lasting_alert(alert) for alert in rule.alerts.values()],
            [
                (replace(unknown_alert, alert=_NO_ALERT), _lasting_alert(unknown_alert.alert))
                for unknown_alert in rule.unknown_alerts.values()
            ],
        )
        for rule in progress.rules
        if rule.rows or rule.alerts or rule.unknown_alerts
    ]


_NO_ALERT = Alert("", (), (), AlertState.INACTIVE, 0.0, 0)


def _lasting_alert(alert: Alert) -> object:
    """Not by `replace`: that takes ten times as long, for every alert at every evaluation."""
    times = alert.fired_at_ms, alert.resolved_at_ms, alert.keep_firing_since_ms
    return alert.rule, alert.labels, alert.state, alert.active_at_ms, times


def _has_waiting(progress: GroupState) -> bool:
    return any(
        alert is not None and alert.state is AlertState.PENDING
        for rule in progress.rules
        for alert in (*rule.alerts.values(), *(row.alert for row in rule.rows))
    )
