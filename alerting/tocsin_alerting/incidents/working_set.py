"""The working copy: every incident that is not closed, its timers and messages, in memory.

It leads and the journal follows: what a step changed is collected in a changeset, which
`drain_changes` hands out to be written. So a step goes on when the disk does not.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry
from tocsin_alerting.incidents.effects import Change, Notify, Record, SetTimer, WithdrawPages
from tocsin_alerting.incidents.escalation_policy import Addressee, Severity
from tocsin_alerting.incidents.incident import (
    ENDED_CONDITIONS,
    Condition,
    Incident,
    IncidentState,
    Member,
)
from tocsin_alerting.incidents.journal.protocol import FORGOTTEN, JournalState
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.notification_builder import build_notifications, title
from tocsin_alerting.incidents.numbers import IncidentNumbers
from tocsin_alerting.incidents.outbox import Outbox, only_to_paged
from tocsin_alerting.incidents.outbox_message import MessageState, OutboxMessage
from tocsin_alerting.incidents.readdressing import Reconfigured, addressee_names, lost_addressees
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.timers import Timer, TimerKind, TimersByKind, TimerSchedule
from tocsin_alerting.incidents.transitions import transition
from tocsin_alerting.rules.alert import AlertEvent, EventKind
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_exporter.engine_access import place

log = logging.getLogger(__name__)

JOURNAL_ONLY = ("instances", "meta", "engines")


class WorkingSet:
    def __init__(self, config: IncidentConfig) -> None:
        self.config = config
        self.incidents: dict[int, Incident] = {}
        self.schedule = TimerSchedule()
        self.requests: dict[str, tuple[int, int]] = {}
        self.outbox = Outbox(self._message_changed)
        self.mutes_dirty: set[int] = set()  # their alerts or state changed: who keeps whom quiet?
        self.all_mutes_dirty = True
        self.numbers = IncidentNumbers()
        self.answered: set[int] = set()  # somebody did something about them since the start
        self._number_by_key: dict[str, int] = {}
        self._number_by_alert: dict[str, int] = {}
        self._superseded: set[int] = set()  # loaded; their key or an alert had a place here before
        self._origins_by_alert: dict[str, tuple[str, ...]] = {}
        self._alerts_by_origin: dict[str, dict[str, None]] = {}
        self._changes = Changeset()
        self._journal_only = Changeset()  # the newest of what only the journal keeps
        self._last_entry = 0
        self._last_message = 0

    # what is there

    def by_group_key(self, key: str) -> Incident | None:
        number = self._number_by_key.get(key)
        return None if number is None else self.incidents[number]

    def incident_of(self, fingerprint: str) -> Incident | None:
        """The incident in which this alert fires or is unknown."""
        number = self._number_by_alert.get(fingerprint)
        return None if number is None else self.incidents[number]

    def is_superseded(self, number: int) -> bool:
        """Whether what was opened before it was loaded has its key, or one of its alerts."""
        return number in self._superseded

    @property
    def origins(self) -> Collection[str]:
        """Those who say of an alert that it fires, or that nobody can tell."""
        return self._alerts_by_origin.keys()

    def number_of(self, member: Member) -> int:
        """The number of the incident in which an active member is."""
        return self._number_by_alert[member.alert.fingerprint]

    def members_of_origin(self, origin: str) -> list[Member]:
        """The members of which `origin` says that they fire, or that nobody can tell."""
        names = self._alerts_by_origin.get(origin, ())
        return [self.incidents[self._number_by_alert[name]].members[name] for name in names]

    def active_events(self, now_ms: int, of: Incident | None = None) -> list[AlertEvent]:
        """What its origins said last of each alert that fires, or of which nobody can tell; in all
        incidents, or in one. Since when nobody can tell is taken to be now where it is not known.
        """
        kinds = {Condition.FIRING: EventKind.FIRING, Condition.UNKNOWN: EventKind.UNKNOWN}
        incidents = self.incidents.values() if of is None else (of,)
        return [
            AlertEvent(
                kinds[condition],
                member.alert,
                _since_ms(member, condition, unknown_ms),
                origin=name,
            )
            for incident in incidents
            for unknown_ms in (incident.unknown_since_ms or now_ms,)
            for member in incident.active
            for name, condition in member.origins.items()
            if condition in kinds
        ]

    def is_held(self, number: int) -> bool:
        """Whether timers and pages of the incident wait for the first word after a start."""
        return self.schedule.is_held(number)

    def release(self, numbers: Iterable[int]) -> None:
        if self.schedule.release(numbers):
            self.outbox.resume()

    # what changes

    def apply(self, change: Change, now_ms: int) -> None:
        """Take an incident's next state and do what it asks for."""
        incident, effects = change
        before = self.incidents.get(incident.number)
        if incident is not before:
            self._put(incident, before)
        self._set_timers(incident, [one.timer for one in effects if isinstance(one, SetTimer)])
        for effect in effects:
            match effect:
                case Record():
                    if effect.actor:
                        self.answered.add(incident.number)
                    self.note(incident.number, effect.event, now_ms, effect.actor, effect.data)
                case WithdrawPages():
                    self.outbox.withdraw_pages(incident.number)
                case Notify():
                    self._notify(incident, effect, now_ms)
        if incident.state is IncidentState.CLOSED:
            self._drop(incident)

    def _put(self, incident: Incident, before: Incident | None) -> None:
        number = incident.number
        self.numbers.taken(number)
        self.incidents[number] = incident
        self._changes.incidents[number] = incident
        changed = _changed_members(incident, before)
        for name, member in changed.items():
            self._changes.members[number, name] = member
        if incident.state is not IncidentState.CLOSED and number not in self._superseded:
            self._number_by_key[incident.key] = number
            self._index(number, changed)
        if incident.severity is Severity.P0 and incident.is_open and self.is_held(number):
            self.release([number])
        if before is None or changed or before.state is not incident.state:
            self._mark_mutes_dirty(incident)

    def _mark_mutes_dirty(self, incident: Incident) -> None:
        if incident.state is not IncidentState.CLOSED:
            self.mutes_dirty.add(incident.number)
        elif incident.active:
            self.all_mutes_dirty = True

    def _index(self, number: int, members: Mapping[str, Member]) -> None:
        for name, member in members.items():
            if member.source not in ENDED_CONDITIONS:
                self._unindex(name)
                self._number_by_alert[name] = number
                self._origins_by_alert[name] = tuple(member.origins)
                for origin in member.origins:
                    self._alerts_by_origin.setdefault(origin, {})[name] = None
            elif self._number_by_alert.get(name) == number:
                self._unindex(name)

    def _unindex(self, name: str) -> None:
        """Forget in which incident the alert fires, and who says so."""
        holder = self._number_by_alert.pop(name, None)
        if holder is None:
            return
        for origin in self._origins_by_alert.pop(name):
            alerts = self._alerts_by_origin[origin]
            alerts.pop(name, None)
            if not alerts:
                del self._alerts_by_origin[origin]

    def _set_timers(self, incident: Incident, new: Iterable[Timer]) -> None:
        before = self.schedule.of_incident(incident.number)
        after = {
            kind: timer for kind, timer in before.items() if timer.is_live(incident.generation)
        }
        after |= {timer.kind: timer for timer in new}
        if after != before:
            self._replace_timers(incident.number, after)

    def _replace_timers(self, number: int, timers: TimersByKind) -> None:
        self.schedule.replace(number, timers)
        self._changes.timers[number] = tuple(timers.values())

    def remove_timer(self, number: int, kind: TimerKind) -> None:
        left = {
            other: timer
            for other, timer in self.schedule.of_incident(number).items()
            if other is not kind
        }
        self._replace_timers(number, left)

    def note(
        self,
        incident: int,
        event: str,
        now_ms: int,
        actor: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a line to the history."""
        self._last_entry += 1
        entry = HistoryEntry(self._last_entry, now_ms, incident, event, actor, dict(data or {}))
        self._changes.history.append(entry)

    def _notify(self, incident: Incident, notify: Notify, now_ms: int) -> None:
        targets = list(notify.targets)
        if only_to_paged(notify.reason):
            informed = self.outbox.informed(incident.number, incident.cycle)
            targets = [target for target in targets if target in informed]
        self._post_messages(incident, notify, targets, now_ms)
        if notify.reason is Reason.RESOLVED:
            missed = self.outbox.missed(incident.number, incident.cycle)
            late = replace(notify, reason=Reason.FIRED_AND_RESOLVED)
            self._post_messages(
                incident,
                late,
                [addressee for addressee in notify.targets if addressee in missed],
                now_ms,
            )

    def _post_messages(
        self, incident: Incident, notify: Notify, targets: Sequence[Addressee], now_ms: int
    ) -> None:
        due_ms = self._next_page_ms(incident)
        paged = self.outbox.paged(incident.number, incident.cycle)
        for notification in build_notifications(
            incident, notify, targets, now_ms, self.config, due_ms, paged
        ):
            self._last_message += 1
            self.outbox.post(
                OutboxMessage(
                    self._last_message, notification, incident.generation, next_at_ms=now_ms
                )
            )

    def _next_page_ms(self, incident: Incident) -> int | None:
        """When the next step is due, or when what was closed by hand is raised again."""
        kind = TimerKind.FINAL if incident.exhausted else TimerKind.STEP
        if incident.closed_by_hand:
            kind = TimerKind.RE_RAISE
        timer = self.schedule.of_incident(incident.number).get(kind)
        return timer.due_at_ms if timer else None

    def _drop(self, incident: Incident) -> None:
        number = incident.number
        self._replace_timers(number, {})
        self.schedule.forget(number)
        self.mutes_dirty.discard(number)
        self.answered.discard(number)
        self._superseded.discard(number)
        del self.incidents[number]
        if self._number_by_key.get(incident.key) == number:
            del self._number_by_key[incident.key]
        for name in incident.members:
            if self._number_by_alert.get(name) == number:
                self._unindex(name)
        self.outbox.drop([number])

    def _message_changed(self, message: OutboxMessage, moved: bool) -> None:
        self._changes.put_message(message, moved=moved)
        number = message.notification.incident
        if number not in self.incidents and message.due_at_ms is None:
            self.outbox.drop([number])

    def shift(self, delta_ms: int) -> None:
        """Live by a clock that reads `delta_ms` more from now on."""
        for number, incident in list(self.incidents.items()):
            self._put(incident.shifted(delta_ms), incident)
            timers = self.schedule.of_incident(number)
            moved = {kind: timer.shifted(delta_ms) for kind, timer in timers.items()}
            self._replace_timers(number, moved)
        self.outbox.shift(delta_ms)

    # reading and writing the journal

    def changes(self) -> Changeset:
        """What the next transaction will hold, to add to it."""
        return self._changes

    def forget_engine(self, target: str) -> None:
        """Alerts that still fire about it are then no reason for the next start to watch it."""
        self._changes.engines[target] = None
        self._changes.meta[FORGOTTEN + place(target)] = "1"

    def watch_engine(self, target: str) -> None:
        """Written before any alert about it: a start that knows the alert watches the engine."""
        self._changes.meta[FORGOTTEN + place(target)] = ""

    def end(self) -> None:
        """Nothing follows but the last transaction."""
        self.numbers.end()
        self._changes.meta["clean_shutdown"] = "1"

    def drain_changes(self, now_ms: int) -> Changeset:
        """What changed since the last call."""
        taken, self._changes = self._changes, Changeset()
        taken.at_ms = now_ms
        taken.meta |= self.numbers.changes()
        self._journal_only.merge(
            Changeset(taken.at_ms, **{name: getattr(taken, name) for name in JOURNAL_ONLY})
        )
        return taken

    def snapshot(self, now_ms: int) -> Changeset:
        """All that is known, as a journal that begins anew must hold it; closed incidents are not,
        and of the history only what was not written yet, which
        `drain_changes` gives."""
        whole = Changeset(now_ms)
        whole.merge(self._journal_only)
        whole.incidents = dict(self.incidents)
        whole.timers = {
            number: tuple(self.schedule.of_incident(number).values()) for number in self.incidents
        }
        whole.requests = dict(self.requests)
        for number, incident in self.incidents.items():
            whole.members |= {(number, name): member for name, member in incident.members.items()}
            whole.messages |= {message.key: message for message in self.outbox.of_incident(number)}
        whole.messages |= {message.key: message for message in self.outbox.waiting()}
        return whole

    def load(self, saved: JournalState, now_ms: int) -> None:
        """Take what the journal holds; a key or an alert that has its incident here already keeps
        it: in two, one would fire for ever.

        Messages that were on their way when the last process ended are sent again, at once.
        """
        self.all_mutes_dirty = True
        self.requests |= saved.requests
        self._keep_journal_only(saved)
        keys, alerts = set(self._number_by_key), set(self._number_by_alert)
        for incident in saved.incidents:
            members = incident.members.items()
            elsewhere = any(
                name in alerts and member.source not in ENDED_CONDITIONS for name, member in members
            )
            if elsewhere or incident.key in keys:
                self._superseded.add(incident.number)
            else:
                self._number_by_key[incident.key] = incident.number
                self._index(incident.number, incident.members)
            self.incidents[incident.number] = incident
            timers = saved.timers.get(incident.number, ())
            self.schedule.replace(incident.number, {timer.kind: timer for timer in timers})
        for message in sorted(saved.messages, key=lambda message: message.id):
            self.outbox.load(message)
            if message.state is MessageState.SENDING:
                expired = replace(message, lease_until_ms=now_ms)
                self.outbox.put(expired)
        self.numbers.load(saved)
        self._last_entry += saved.last_entry
        self._last_message += saved.last_message

    def _keep_journal_only(self, saved: JournalState) -> None:
        """What came since the start is newer."""
        kept = Changeset(
            meta=dict(saved.meta), engines={engine.target: engine for engine in saved.engines}
        )
        rows: dict[tuple[str, str], list[InstanceRow]] = {}
        for row in saved.instances:
            rows.setdefault((row.file, row.group), []).append(row)
        kept.instances = {group: tuple(several) for group, several in rows.items()}
        kept.merge(self._journal_only)
        self._journal_only = kept

    def readdress(self, now_ms: int) -> None:
        """Incidents that would tell somebody whom the configuration no longer has tell others."""
        for incident in list(self.incidents.values()):
            if not (lost := lost_addressees(incident, self.config)):
                continue
            event = Reconfigured(frozenset(self.outbox.reached(incident.number, incident.cycle)))
            self.apply(transition(incident, event, now_ms, self.config), now_ms)
            log.warning(
                "incident #%d [%s] %s: the configuration no longer has %s; who is told now: %s",
                incident.number,
                incident.severity.value,
                title(incident),
                addressee_names(lost),
                addressee_names(self.incidents[incident.number].step_addressees()),
            )

    def renumber(self, unwritten: Changeset, saved: JournalState, now_ms: int) -> None:
        """Number what was never written after what the journal turned out to hold; one that turned
        out to be new says nothing of the numbers that were given before."""
        if "clean_shutdown" not in saved.meta:
            self.numbers.begin_apart(now_ms)
        for entries in (unwritten.history, self._changes.history):
            entries[:] = [replace(one, seq=one.seq + saved.last_entry) for one in entries]
        for key, one in unwritten.messages.items():  # those of closed incidents stand only there
            unwritten.messages[key] = replace(one, id=one.id + saved.last_message)
        self.outbox.renumber(saved.last_message)


def _since_ms(member: Member, condition: Condition, unknown_ms: int) -> int:
    return unknown_ms if condition is Condition.UNKNOWN else member.since_ms


def _changed_members(incident: Incident, before: Incident | None) -> Mapping[str, Member]:
    """The members that are new or different."""
    if before is None or before.members is incident.members:
        return {} if before else incident.members
    known = before.members
    return {n: member for n, member in incident.members.items() if known.get(n) is not member}
