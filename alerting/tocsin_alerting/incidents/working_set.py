"""The working copy: every incident that is not closed, its timers and messages, in memory.

It leads and the journal follows: what a step changed is collected in a changeset, which
`drain_changes` hands out to be written. So a step goes on when the disk does not.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry, JournalOnly
from tocsin_alerting.incidents.digests import digest_at_ms
from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.external_alerts import ExternalAlerts
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeats
from tocsin_alerting.incidents.incident import (
    Change,
    Incident,
    IncidentState,
    Member,
    Notify,
    Reason,
    Record,
    SetTimer,
    Timer,
    TimerKind,
    TimersByKind,
    WithdrawPages,
)
from tocsin_alerting.incidents.incident_index import (
    IncidentIndex,
    active_events,
    changed_members,
    mutes_otherwise,
)
from tocsin_alerting.incidents.journal.protocol import FORGOTTEN, JournalState
from tocsin_alerting.incidents.mute_rules import MuteRules
from tocsin_alerting.incidents.notification import (
    Notification,
    build_notifications,
    title,
    with_storm,
)
from tocsin_alerting.incidents.numbers import IncidentNumbers
from tocsin_alerting.incidents.oncall import Override
from tocsin_alerting.incidents.openings import RecentOpenings
from tocsin_alerting.incidents.outbox import Outbox, only_to_paged
from tocsin_alerting.incidents.outbox_message import MessageState, OutboxMessage
from tocsin_alerting.incidents.rate_budget import RateBudgets
from tocsin_alerting.incidents.readdressing import (
    RENAMED,
    Reconfigured,
    also_called,
    lost_recipients,
    recipient_names,
    renames,
)
from tocsin_alerting.incidents.roster import Roster
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.storm_members import StormMembers
from tocsin_alerting.incidents.storm_summary import storm_counts, storm_incidents, storm_text
from tocsin_alerting.incidents.timers import TimerSchedule
from tocsin_alerting.incidents.transitions import transition
from tocsin_alerting.rules.alert import AlertEvent
from tocsin_alerting.rules.severity import Severity
from tocsin_exporter.engine_access import place

log = logging.getLogger(__name__)


class WorkingSet:
    def __init__(self, config: IncidentConfig) -> None:
        self.config = config
        self._roster = config.roster
        self.overrides: dict[str, Override] = {}
        self.people_changed = False  # what waits for people has yet to look again
        self.incidents: dict[int, Incident] = {}
        self.schedule = TimerSchedule()
        self.requests: dict[str, tuple[int, int]] = {}
        rates = {name: rules.rates for name, rules in config.receiver_rules.items()}
        budgets = RateBudgets(rates, config.contact_rates)
        self.outbox = Outbox(self._message_changed, budgets=budgets)
        self.mutes_dirty: set[int] = set()  # their alerts or state changed: who keeps whom quiet?
        self.all_mutes_dirty = True
        self.unjudged: set[int] = set()  # may be silenced otherwise; their pages wait until then
        self.mute_rules = MuteRules(config.maintenance)
        self.subject_timers: dict[str, int] = {}  # when what is about no incident is due
        self.numbers = IncidentNumbers()
        self.external = ExternalAlerts(config.unknown_max_ms)
        self.heartbeats = ExpectedHeartbeats(config.heartbeats)
        self.answered: set[int] = set()  # somebody did something about them since the start
        self.index = IncidentIndex()
        self.storms = StormMembers()
        self.openings = RecentOpenings()
        self._changes = Changeset()
        self._journal_only = JournalOnly()
        self._last_entry = 0
        self._last_message = 0

    # what is there

    def by_group_key(self, key: str) -> Incident | None:
        number = self.index.by_key(key)
        return None if number is None else self.incidents[number]

    def incident_of(self, fingerprint: str) -> Incident | None:
        """The incident in which this alert fires or is unknown."""
        number = self.index.by_alert(fingerprint)
        return None if number is None else self.incidents[number]

    def members_of_origin(self, origin: str) -> list[Member]:
        """The members of which `origin` says that they fire, or that nobody can tell."""
        index = self.index
        return [self.incidents[index[name]].members[name] for name in index.alerts_of(origin)]

    def active_events(self, now_ms: int, of: Incident | None = None) -> list[AlertEvent]:
        """What its origins said last of each alert that fires, or of which nobody can tell; in all
        incidents, or in one."""
        return active_events(self.incidents.values() if of is None else (of,), now_ms)

    def is_held(self, number: int) -> bool:
        """Whether timers and pages of the incident wait for the first word after a start."""
        return number in self.unjudged or self.schedule.is_held(number)

    def judged(self, numbers: frozenset[int]) -> None:
        """What silences them is known. Pages may go once it is of all."""
        self.unjudged -= numbers
        if numbers and not self.unjudged:
            self.outbox.resume()

    def release(self, numbers: Iterable[int]) -> None:
        known = {number: self.incidents.get(number) for number in numbers}
        firing = [one for one in known.values() if one and one.counts_as_firing]
        if self.schedule.release({*known, *(one.storm for one in firing)}):
            self.outbox.resume()

    # what changes

    def apply(self, change: Change, now_ms: int) -> None:
        """Take an incident's next state and do what it asks for."""
        incident, effects = change
        before = self.incidents.get(incident.number)
        if before is None or incident.cycle != before.cycle:
            times = self.openings.add(incident.key, now_ms)
            incident = replace(incident, times_in_24h=times)
        if incident is not before:
            self._put(incident, before)
        self._set_timers(
            incident, [effect.timer for effect in effects if isinstance(effect, SetTimer)]
        )
        waited: frozenset[Addressee] = frozenset()
        for effect in effects:
            match effect:
                case Record():
                    if effect.actor:
                        self.answered.add(incident.number)
                    self.note(incident.number, effect.event, now_ms, effect.actor, effect.data)
                case WithdrawPages():
                    waited = self.outbox.waiting_for_digest(incident.number)
                    self.outbox.withdraw_pages(incident.number)
                case Notify():
                    self._notify(incident, effect, waited, now_ms)
        if incident.state is IncidentState.CLOSED:
            self._drop(incident)

    def _put(self, incident: Incident, before: Incident | None) -> None:
        number = incident.number
        if before is None:
            self.numbers.taken(number)
        self.incidents[number] = incident
        self._changes.incidents[number] = incident
        changed = changed_members(incident, before)
        for name, member in changed.items():
            self._changes.members[number, name] = member
        if incident.state is not IncidentState.CLOSED:
            self.index.put(incident, changed)
        self.storms.put(incident, before)
        if incident.severity is Severity.P0 and incident.is_open and self.is_held(number):
            self.release([number])
        if before is None or changed or mutes_otherwise(incident, before):
            self._mark_mutes_dirty(incident)

    def _mark_mutes_dirty(self, incident: Incident) -> None:
        if incident.state is not IncidentState.CLOSED:
            self.mutes_dirty.add(incident.number)
        elif incident.active:
            self.all_mutes_dirty = True

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

    def _notify(
        self, incident: Incident, notify: Notify, waited: frozenset[Addressee], now_ms: int
    ) -> None:
        """`waited` are those whom the next digest was to tell, and will tell that it is over."""
        targets = list(notify.targets)
        if only_to_paged(notify.reason):
            informed = self.outbox.informed(incident.number, incident.cycle)
            targets = [target for target in targets if target in informed]
        self._post_messages(incident, notify, targets, now_ms)
        if notify.reason is Reason.RESOLVED:
            missed = self.outbox.missed(incident.number, incident.cycle) | waited
            told = {*targets, *self.outbox.informed(incident.number, incident.cycle)}
            fallback_of = self.config.own_fallback_of
            missed -= {to for to in missed if to.contact and fallback_of(to) in told}
            missed -= set(targets)
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
        for notification in self._of_storm(
            incident,
            build_notifications(incident, notify, targets, now_ms, self.config, due_ms, paged),
        ):
            self._last_message += 1
            target = Addressee(notification.receiver, notification.contact)
            at_ms = digest_at_ms(incident, notification.reason, target, now_ms, self.config)
            message = OutboxMessage(
                self._last_message,
                replace(notification, digest_at_ms=at_ms),
                incident.generation,
                next_at_ms=now_ms if at_ms is None else at_ms,
            )
            message = replace(message, deliver_by_ms=self.deliver_by_ms(message))
            self.outbox.post(message)

    def deliver_by_ms(self, message: OutboxMessage) -> int | None:
        """Counted from when it may go; None for what is no page, or where none is given."""
        rules = self.config.receiver_rules.get(message.notification.receiver)
        if rules is None or not message.is_page:
            return None
        within_ms = rules.deliver_within_ms.get(message.notification.severity)
        return None if within_ms is None else message.next_at_ms + within_ms

    def _of_storm(
        self, incident: Incident, notifications: list[Notification]
    ) -> list[Notification]:
        if not incident.is_storm or not notifications:
            return notifications
        told = storm_incidents(incident, self.storms, self.incidents)
        counts = storm_counts(incident, told)
        return [with_storm(one, told, counts, storm_text(counts)) for one in notifications]

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
        del self.incidents[number]
        self.index.drop(incident)
        self.storms.drop(incident)
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
        self.external.shift(delta_ms)
        self.heartbeats.shift(delta_ms)
        self.openings.shift(delta_ms)
        self._changes.silences |= self.mute_rules.shift(delta_ms)
        for subject, due_at_ms in list(self.subject_timers.items()):
            self.set_subject_timer(subject, due_at_ms + delta_ms)

    # who is on call

    def put_override(self, override: Override) -> None:
        """Somebody else is on call from now on; one of the same id is replaced."""
        self._changes.overrides[override.id] = override
        self.overrides[override.id] = override
        self._apply_overrides()

    def remove_override(self, id: str) -> Override | None:
        """The one that was there."""
        removed = self.overrides.pop(id, None)
        if removed is not None:
            self._changes.overrides[id] = None
            self._apply_overrides()
        return removed

    def set_roster(self, roster: Roster) -> None:
        """A calendar was read again."""
        self._roster = roster
        self._apply_overrides()

    def reconfigure(self, config: IncidentConfig, now_ms: int, renamed: Mapping[str, str]) -> None:
        """Live by another configuration. Open incidents keep their policy, but for recipients that
        are gone; what went out counts for the budgets. `renamed` are receivers by the names before.
        """
        if renamed:
            known = renames(self.remembered(RENAMED), renamed, config.receiver_rules.keys())
            self._changes.meta[RENAMED] = known
        self.config = replace(config, broken=self.config.broken)
        self.set_roster(config.roster)
        rates = {name: rules.rates for name, rules in config.receiver_rules.items()}
        self.outbox.budgets.set_rates(rates, config.contact_rates)
        self.mute_rules.set_windows(config.maintenance)
        self.external.unknown_max_ms = config.unknown_max_ms
        self.heartbeats.configure(config.heartbeats)
        self.all_mutes_dirty = True
        self.readdress(now_ms)
        self.outbox.resume()

    def set_broken(self, receivers: frozenset[str]) -> None:
        """Nothing is told of one of them through another."""
        self.config = replace(self.config, broken=receivers)

    def _apply_overrides(self) -> None:
        self.people_changed = True
        roster = self._roster.with_overrides(self.overrides.values())
        self.config = replace(self.config, roster=roster)

    # reading and writing the journal

    def changes(self) -> Changeset:
        """What the next transaction will hold, to add to it."""
        return self._changes

    def remembered(self, key: str) -> str:
        """What the journal's `meta` holds, or soon will; "" for nothing."""
        return self._changes.meta.get(key, self._journal_only.meta.get(key, ""))

    def set_subject_timer(self, subject: str, due_at_ms: int | None) -> None:
        """Replaces the timer of the subject; None: there is none any more."""
        self._changes.subject_timers[subject] = due_at_ms
        self.subject_timers.pop(subject, None)
        if due_at_ms is not None:
            self.subject_timers[subject] = due_at_ms

    def post(self, notification: Notification) -> None:
        """A message that is about no incident in particular."""
        self._last_message += 1
        self.outbox.post(OutboxMessage(self._last_message, notification, 0))

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
        taken.external |= self.external.drain_changes()
        taken.heartbeats |= self.heartbeats.drain_changes()
        self._journal_only.keep(taken)
        return taken

    def snapshot(self, now_ms: int) -> Changeset:
        """All that is known, as a journal that begins anew must hold it; closed incidents are not,
        and of the history only what was not written yet, which `drain_changes` gives."""
        whole = self._journal_only.as_changeset(now_ms)
        whole.incidents = dict(self.incidents)
        whole.timers = {
            number: tuple(self.schedule.of_incident(number).values()) for number in self.incidents
        }
        whole.requests = dict(self.requests)
        whole.external = {alert.key: alert for alert in self.external}
        whole.heartbeats = self.heartbeats.rows()
        whole.silences = dict(self.mute_rules.silences)
        whole.subject_timers = dict(self.subject_timers)
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
        self.mute_rules.load(saved.silences)
        self.subject_timers = {**saved.subject_timers, **self.subject_timers}
        self._journal_only.load(saved.meta, saved.engines, saved.overrides, saved.instances)
        known = self._journal_only.overrides | self._changes.overrides
        self.overrides = {name: override for name, override in known.items() if override}
        self._apply_overrides()
        self.external.load(saved.external)
        self.heartbeats.load(saved.heartbeats)
        self.index.load(saved.incidents)
        self.storms.load(saved.incidents)
        for incident in saved.incidents:
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

    def readdress(self, now_ms: int) -> None:
        """Incidents that would tell somebody whom the configuration no longer has tell others."""
        for incident in list(self.incidents.values()):
            if not (lost := lost_recipients(incident, self.config)):
                continue
            about, step_ms = (incident.number, incident.cycle), incident.paged_at_ms or 0
            now = partial(also_called, remembered=self.remembered(RENAMED))
            reached, told = self.outbox.reached(*about), self.outbox.reached(*about, step_ms)
            event = Reconfigured(now(reached), now(told))
            self.apply(transition(incident, event, now_ms, self.config), now_ms)
            log.warning(
                "incident #%d [%s] %s: %s no longer in the configuration; now notifying %s",
                incident.number,
                incident.severity.value,
                title(incident),
                recipient_names(lost),
                recipient_names(self.incidents[incident.number].step_recipients()),
            )

    def renumber(self, unwritten: Changeset, saved: JournalState, now_ms: int) -> None:
        """Number what was never written after what the journal turned out to hold; one that turned
        out to be new says nothing of the numbers that were given before."""
        if "clean_shutdown" not in saved.meta:
            self.numbers.begin_apart(now_ms)
        for entries in (unwritten.history, self._changes.history):
            entries[:] = [replace(entry, seq=entry.seq + saved.last_entry) for entry in entries]
        # Those of closed incidents stand only there.
        for key, message in unwritten.messages.items():
            unwritten.messages[key] = replace(message, id=message.id + saved.last_message)
        self.outbox.renumber(saved.last_message)
