"""The working copy: every incident that is not closed, its timers and messages, in memory.

It leads and the journal follows: what a step changed is collected in a batch, which `take` hands
out to be written. So a step goes on when the disk does not.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tocsin_alerting.incidents.batch import Batch, Entry
from tocsin_alerting.incidents.composition import compose, title
from tocsin_alerting.incidents.effects import Change, Notify, Record, SetTimer, WithdrawPages
from tocsin_alerting.incidents.incident import ENDED, Incident, Member, Source, State
from tocsin_alerting.incidents.journal import FORGOTTEN, Saved
from tocsin_alerting.incidents.message import Message, MessageState
from tocsin_alerting.incidents.notification import Reason
from tocsin_alerting.incidents.numbers import Numbers
from tocsin_alerting.incidents.outbox import Outbox, wants_page
from tocsin_alerting.incidents.policy import Severity, Target
from tocsin_alerting.incidents.readdressing import Reconfigured, lost_targets, names
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.incidents.schedule import Schedule, Timers
from tocsin_alerting.incidents.timer import Timer, TimerKind
from tocsin_alerting.incidents.transitions import step
from tocsin_alerting.rules.alert import AlertEvent, EventKind
from tocsin_alerting.rules.journal import InstanceRow
from tocsin_exporter.engine_access import place

log = logging.getLogger(__name__)

LASTING = ("instances", "meta", "engines")


class Ledger:
    def __init__(self, config: IncidentConfig) -> None:
        self.config = config
        self.incidents: dict[int, Incident] = {}
        self.schedule = Schedule()
        self.requests: dict[str, tuple[int, int]] = {}
        self.outbox = Outbox(self._message_changed)
        self.stirred: set[int] = set()  # their alerts or state changed: who keeps whom quiet?
        self.all_stirred = True
        self.numbers = Numbers()
        self.answered: set[int] = set()  # somebody did something about them since the start
        self._by_key: dict[str, int] = {}
        self._holder: dict[str, int] = {}
        self._superseded: set[int] = set()  # loaded; their key or an alert had a place here before
        self._origins: dict[str, tuple[str, ...]] = {}
        self._said_by: dict[str, dict[str, None]] = {}
        self._changes = Batch()
        self._lasting = Batch()  # the newest of what only the journal keeps
        self._last_entry = 0
        self._last_message = 0

    # what is there

    def with_key(self, key: str) -> Incident | None:
        number = self._by_key.get(key)
        return None if number is None else self.incidents[number]

    def holding(self, fingerprint: str) -> Incident | None:
        """The incident in which this alert fires or is unknown."""
        number = self._holder.get(fingerprint)
        return None if number is None else self.incidents[number]

    def is_superseded(self, number: int) -> bool:
        """Whether what was opened before it was loaded has its key, or one of its alerts."""
        return number in self._superseded

    @property
    def origins(self) -> Collection[str]:
        """Those who say of an alert that it fires, or that nobody can tell."""
        return self._said_by.keys()

    def holder(self, member: Member) -> int:
        """The number of the incident in which an active member is."""
        return self._holder[member.alert.fingerprint]

    def said_by(self, origin: str) -> list[Member]:
        """The members of which `origin` says that they fire, or that nobody can tell."""
        names = self._said_by.get(origin, ())
        return [self.incidents[self._holder[name]].members[name] for name in names]

    def held(self, now_ms: int, of: Incident | None = None) -> list[AlertEvent]:
        """What its origins said last of each alert that fires, or of which nobody can tell; in all
        incidents, or in one. Since when nobody can tell is taken to be now where it is not known.
        """
        kinds = {Source.FIRING: EventKind.FIRING, Source.UNKNOWN: EventKind.UNKNOWN}
        every = self.incidents.values() if of is None else (of,)
        return [
            AlertEvent(kinds[said], one.alert, _since_ms(one, said, unknown_ms), origin=name)
            for incident in every
            for unknown_ms in (incident.unknown_since_ms or now_ms,)
            for one in incident.active
            for name, said in one.origins.items()
            if said in kinds
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
            self._keep(incident, before)
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
                    self._post(incident, effect, now_ms)
        if incident.state is State.CLOSED:
            self._forget(incident)

    def _keep(self, incident: Incident, before: Incident | None) -> None:
        number = incident.number
        self.numbers.taken(number)
        self.incidents[number] = incident
        self._changes.incidents[number] = incident
        changed = _changed(incident, before)
        for name, member in changed.items():
            self._changes.members[number, name] = member
        if incident.state is not State.CLOSED and number not in self._superseded:
            self._by_key[incident.key] = number
            self._index(number, changed)
        if incident.severity is Severity.P0 and incident.is_open and self.is_held(number):
            self.release([number])
        if before is None or changed or before.state is not incident.state:
            self._stir(incident)

    def _stir(self, incident: Incident) -> None:
        if incident.state is not State.CLOSED:
            self.stirred.add(incident.number)
        elif incident.active:
            self.all_stirred = True

    def _index(self, number: int, members: Mapping[str, Member]) -> None:
        for name, member in members.items():
            if member.source not in ENDED:
                self._release(name)
                self._holder[name] = number
                self._origins[name] = tuple(member.origins)
                for origin in member.origins:
                    self._said_by.setdefault(origin, {})[name] = None
            elif self._holder.get(name) == number:
                self._release(name)

    def _release(self, name: str) -> None:
        """Forget in which incident the alert fires, and who says so."""
        holder = self._holder.pop(name, None)
        if holder is None:
            return
        for origin in self._origins.pop(name):
            said = self._said_by[origin]
            said.pop(name, None)
            if not said:
                del self._said_by[origin]

    def _set_timers(self, incident: Incident, new: Iterable[Timer]) -> None:
        before = self.schedule.of(incident.number)
        after = {kind: one for kind, one in before.items() if one.live(incident.generation)}
        after |= {timer.kind: timer for timer in new}
        if after != before:
            self._replace_timers(incident.number, after)

    def _replace_timers(self, number: int, timers: Timers) -> None:
        self.schedule.replace(number, timers)
        self._changes.timers[number] = tuple(timers.values())

    def remove_timer(self, number: int, kind: TimerKind) -> None:
        left = {one: timer for one, timer in self.schedule.of(number).items() if one is not kind}
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
        entry = Entry(self._last_entry, now_ms, incident, event, actor, dict(data or {}))
        self._changes.history.append(entry)

    def _post(self, incident: Incident, notify: Notify, now_ms: int) -> None:
        targets = list(notify.targets)
        if wants_page(notify.reason):
            informed = self.outbox.informed(incident.number, incident.cycle)
            targets = [target for target in targets if target in informed]
        self._send(incident, notify, targets, now_ms)
        if notify.reason is Reason.RESOLVED:
            missed = self.outbox.missed(incident.number, incident.cycle)
            late = replace(notify, reason=Reason.FIRED_AND_RESOLVED)
            self._send(incident, late, [one for one in notify.targets if one in missed], now_ms)

    def _send(
        self, incident: Incident, notify: Notify, targets: Sequence[Target], now_ms: int
    ) -> None:
        due_ms = self._follows_ms(incident)
        paged = self.outbox.paged(incident.number, incident.cycle)
        for notification in compose(incident, notify, targets, now_ms, self.config, due_ms, paged):
            self._last_message += 1
            self.outbox.post(
                Message(self._last_message, notification, incident.generation, next_at_ms=now_ms)
            )

    def _follows_ms(self, incident: Incident) -> int | None:
        """When the next step is due, or when what was closed by hand is raised again."""
        kind = TimerKind.FINAL if incident.exhausted else TimerKind.STEP
        if incident.closed_by_hand:
            kind = TimerKind.RE_RAISE
        timer = self.schedule.of(incident.number).get(kind)
        return timer.due_at_ms if timer else None

    def _forget(self, incident: Incident) -> None:
        number = incident.number
        self._replace_timers(number, {})
        self.schedule.forget(number)
        self.stirred.discard(number)
        self.answered.discard(number)
        self._superseded.discard(number)
        del self.incidents[number]
        if self._by_key.get(incident.key) == number:
            del self._by_key[incident.key]
        for name in incident.members:
            if self._holder.get(name) == number:
                self._release(name)
        self.outbox.drop([number])

    def _message_changed(self, message: Message, moved: bool) -> None:
        self._changes.put_message(message, moved=moved)
        number = message.notification.incident
        if number not in self.incidents and message.due_at_ms is None:
            self.outbox.drop([number])

    def shift(self, delta_ms: int) -> None:
        """Live by a clock that reads `delta_ms` more from now on."""
        for number, incident in list(self.incidents.items()):
            self._keep(incident.shifted(delta_ms), incident)
            timers = self.schedule.of(number)
            moved = {kind: timer.shifted(delta_ms) for kind, timer in timers.items()}
            self._replace_timers(number, moved)
        self.outbox.shift(delta_ms)

    # reading and writing the journal

    def changes(self) -> Batch:
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

    def take(self, now_ms: int) -> Batch:
        """What changed since the last call."""
        taken, self._changes = self._changes, Batch()
        taken.at_ms = now_ms
        taken.meta |= self.numbers.changes()
        self._lasting.merge(Batch(taken.at_ms, **{name: getattr(taken, name) for name in LASTING}))
        return taken

    def everything(self, now_ms: int) -> Batch:
        """All that is known, as a journal that begins anew must hold it; closed incidents are not,
        and of the history only what was not written yet, which `take` gives."""
        whole = Batch(now_ms)
        whole.merge(self._lasting)
        whole.incidents = dict(self.incidents)
        whole.timers = {one: tuple(self.schedule.of(one).values()) for one in self.incidents}
        whole.requests = dict(self.requests)
        for number, incident in self.incidents.items():
            whole.members |= {(number, name): one for name, one in incident.members.items()}
            whole.messages |= {one.key: one for one in self.outbox.of(number)}
        whole.messages |= {one.key: one for one in self.outbox.waiting()}
        return whole

    def load(self, saved: Saved, now_ms: int) -> None:
        """Take what the journal holds; a key or an alert that has its incident here already keeps
        it: in two, one would fire for ever.

        Messages that were on their way when the last process ended are sent again, at once.
        """
        self.all_stirred = True
        self.requests |= saved.requests
        self._keep_lasting(saved)
        keys, held = set(self._by_key), set(self._holder)
        for incident in saved.incidents:
            members = incident.members.items()
            elsewhere = any(name in held and one.source not in ENDED for name, one in members)
            if elsewhere or incident.key in keys:
                self._superseded.add(incident.number)
            else:
                self._by_key[incident.key] = incident.number
                self._index(incident.number, incident.members)
            self.incidents[incident.number] = incident
            timers = saved.timers.get(incident.number, ())
            self.schedule.replace(incident.number, {timer.kind: timer for timer in timers})
        for message in sorted(saved.messages, key=lambda one: one.id):
            self.outbox.load(message)
            if message.state is MessageState.SENDING:
                expired = replace(message, lease_until_ms=now_ms)
                self.outbox.put(expired)
        self.numbers.load(saved)
        self._last_entry += saved.last_entry
        self._last_message += saved.last_message

    def _keep_lasting(self, saved: Saved) -> None:
        """What came since the start is newer."""
        kept = Batch(meta=dict(saved.meta), engines={one.target: one for one in saved.engines})
        rows: dict[tuple[str, str], list[InstanceRow]] = {}
        for row in saved.instances:
            rows.setdefault((row.file, row.group), []).append(row)
        kept.instances = {group: tuple(several) for group, several in rows.items()}
        kept.merge(self._lasting)
        self._lasting = kept

    def readdress(self, now_ms: int) -> None:
        """Incidents that would tell somebody whom the configuration no longer has tell others."""
        for incident in list(self.incidents.values()):
            if not (lost := lost_targets(incident, self.config)):
                continue
            event = Reconfigured(frozenset(self.outbox.reached(incident.number, incident.cycle)))
            self.apply(step(incident, event, now_ms, self.config), now_ms)
            log.warning(
                "incident #%d [%s] %s: the configuration no longer has %s; who is told now: %s",
                incident.number,
                incident.severity.value,
                title(incident),
                names(lost),
                names(self.incidents[incident.number].step_targets()),
            )

    def renumbered(self, unwritten: Batch, saved: Saved, now_ms: int) -> None:
        """Number what was never written after what the journal turned out to hold; one that turned
        out to be new says nothing of the numbers that were given before."""
        if "clean_shutdown" not in saved.meta:
            self.numbers.begin_apart(now_ms)
        for entries in (unwritten.history, self._changes.history):
            entries[:] = [replace(one, seq=one.seq + saved.last_entry) for one in entries]
        for key, one in unwritten.messages.items():  # those of closed incidents stand only there
            unwritten.messages[key] = replace(one, id=one.id + saved.last_message)
        self.outbox.renumber(saved.last_message)


def _since_ms(member: Member, said: Source, unknown_ms: int) -> int:
    return unknown_ms if said is Source.UNKNOWN else member.since_ms


def _changed(incident: Incident, before: Incident | None) -> Mapping[str, Member]:
    """The members that are new or different."""
    if before is None or before.members is incident.members:
        return {} if before else incident.members
    known = before.members
    return {n: one for n, one in incident.members.items() if known.get(n) is not one}
