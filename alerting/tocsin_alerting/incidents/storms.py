"""Sees that a storm begins, who is in it, and that it is over: rules 33 to 35.

All that counts is in the incidents, so a restart goes on where the last process ended.
"""

from dataclasses import replace

from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.broken_channels import CHANNEL
from tocsin_alerting.incidents.escalation_policy import EscalationPolicy
from tocsin_alerting.incidents.incident import Incident, IncidentState, Record, TimerKind
from tocsin_alerting.incidents.mute_rules import NOTHING
from tocsin_alerting.incidents.muting import Mutes
from tocsin_alerting.incidents.routing import StormLimit
from tocsin_alerting.incidents.store_watch import STORE
from tocsin_alerting.incidents.storm_changes import (
    StormGrew,
    joint_policy,
    open_storm,
    storm_event,
    storm_name,
)
from tocsin_alerting.incidents.storm_members import StormTally
from tocsin_alerting.incidents.transitions import Event, transition
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import EventKind
from tocsin_alerting.rules.severity import Severity

SUBJECT = "storm"
UPDATE_MS = 5 * 60_000
_PART = 200  # acknowledged with their storm in one step
_LEAVES = frozenset({Verb.ESCALATE, Verb.UNACK, Verb.ASSIGN})
# What a storm's acknowledgement of before does not cover.
URGENT = frozenset({Severity.P0, Severity.P1})
_NAMED = 10  # members whose mutes say why a storm is quiet


class Storms:
    def __init__(self, working: WorkingSet) -> None:
        self._working = working
        self._opened: list[int] = []
        self._recent: dict[int, int] = {}  # which began to page, and when, the latest last
        self._early: set[int] = set()  # of the recent ones, those that were not made one of a storm
        self._singles: dict[int, str] = {}  # of P0, told singly: their alert's name
        self._spread: dict[int, int] = {}  # storms whose acknowledgement of then is passed on
        self._to_acknowledge: list[tuple[int, int]] = []  # incident, storm

    def opened(self, number: int) -> None:
        self._opened.append(number)

    def names(self, incident: Incident) -> frozenset[str]:
        """What mutes it here: its storm; a storm is quiet when all of its incidents are."""
        if not incident.storm:
            return NOTHING
        if incident.is_storm:
            return self._names_of_storm(incident)
        storm = self._working.incidents.get(incident.storm)
        if self._fires_again(incident):  # then it counts as what opens
            return NOTHING
        holds = storm is not None and storm.counts_as_firing and not incident.told_singly
        return frozenset((storm_name(incident.storm),)) if holds else NOTHING

    def _fires_again(self, incident: Incident) -> bool:
        known = self._working.incidents[incident.number]
        over = not known.counts_as_firing
        return over and incident.state is IncidentState.TRIGGERED and incident.severity in URGENT

    def _names_of_storm(self, storm: Incident) -> frozenset[str]:
        tally = self._working.storms.of(storm.number)
        if not tally.firing or tally.loud:
            return NOTHING
        muted = (self._working.incidents[number] for number in sorted(tally.firing)[:_NAMED])
        return NOTHING.union(*(one.muted_by for one in muted)) - {storm_name(storm.number)}

    def admit(self, incident: Incident, now_ms: int) -> frozenset[str]:
        """It is about to page: what mutes it if a storm tells of it instead."""
        limit = self._working.config.storm
        if limit is None or incident.is_storm or incident.policy.digest_ms is not None:
            return NOTHING
        if incident.drill:  # it is to show how one incident reaches people
            return NOTHING
        if _says_that_we_are_blind(incident):
            return NOTHING
        self._remember(incident.number, now_ms, limit)
        storm = self._current()
        if storm is None:
            self._count_anew()
        if self._is_single(incident, limit):
            return self._leave(incident, now_ms)
        if len(self._recent) < limit.incidents:
            self._early.add(incident.number)
            return self._leave(incident, now_ms)
        if storm is None:
            storm = self._begin(incident, now_ms)
        self._join_early(incident.number, storm.number, now_ms)
        self._join(incident, storm.number, now_ms)
        return frozenset((storm_name(storm.number),))

    def _leave(self, incident: Incident, now_ms: int) -> frozenset[str]:
        """Nothing mutes it: one that fires again is no longer of its storm of before."""
        if incident.storm and not incident.told_singly:
            self._working.apply((replace(incident, told_singly=True), ()), now_ms)
        return NOTHING

    def _remember(self, number: int, now_ms: int, limit: StormLimit) -> None:
        self._recent.pop(number, None)
        self._recent[number] = now_ms
        oldest = next(iter(self._recent))
        while self._recent[oldest] <= now_ms - limit.window_ms:
            del self._recent[oldest]
            self._early.discard(oldest)
            oldest = next(iter(self._recent))
        if len(self._recent) < limit.incidents:
            self._count_anew()

    def _count_anew(self) -> None:
        """Of P0 told singly those count that began within the window, where no storm rages."""
        self._singles = {n: name for n, name in self._singles.items() if n in self._recent}

    def _current(self) -> Incident | None:
        """The newest that is open."""
        incidents = self._working.incidents
        storms = (incidents[number] for number in reversed(self._working.storms.storms))
        return next((storm for storm in storms if storm.is_open), None)

    def _is_single(self, incident: Incident, limit: StormLimit) -> bool:
        """Whether it is a P0 that is told singly, as so many are as make a storm, and the first of
        each alert name always; it counts from now on."""
        if incident.severity is not Severity.P0:
            return False
        name = _alert_name(incident)
        if len(self._singles) >= limit.incidents and name in self._singles.values():
            return incident.number in self._singles
        self._singles[incident.number] = name
        return True

    def _begin(self, first: Incident, now_ms: int) -> Incident:
        working = self._working
        number = working.numbers.give(now_ms)
        working.apply(open_storm(number, first, now_ms, working.config), now_ms)
        working.set_subject_timer(f"{SUBJECT}:{number}", now_ms + UPDATE_MS)
        return working.incidents[number]

    def _join_early(self, first: int, storm: int, now_ms: int) -> None:
        """Those that opened shortly before, and of which nobody was told yet, are of it."""
        early, self._early = self._early - {first}, set()
        for number in sorted(early):
            one = self._working.incidents.get(number)
            if one is not None and self._waits_to_page(one):
                self._join(one, storm, now_ms)
                self._mute(number, storm, now_ms)

    def _join(self, incident: Incident, number: int, now_ms: int) -> None:
        working = self._working
        before = working.incidents[incident.number]
        joined = 0 if before.storm == number and not before.told_singly else 1
        member = replace(before, storm=number, told_singly=False)
        working.apply((member, ()), now_ms)
        storm = working.incidents[number]
        policy = storm.policy
        told = self._may_be_told(member.policy, member.severity, now_ms)
        if told:
            policy = joint_policy(storm, member)
        worst = min(member.severity, storm.severity)
        anew = told and member.severity in URGENT
        grown = StormGrew(policy, worst, storm.joined + joined, storm.lost, anew=anew)
        self._tell(number, grown, now_ms)

    def _waits_to_page(self, incident: Incident) -> bool:
        """Whether nobody was told yet that it fires, or does so again."""
        if incident.state is not IncidentState.TRIGGERED or incident.muted or incident.is_storm:
            return False
        return TimerKind.GROUP_WAIT in self._working.schedule.of_incident(incident.number)

    def _may_be_told(self, policy: EscalationPolicy, severity: Severity, now_ms: int) -> bool:
        """Whom a policy tells in its hours alone, a storm tells in them as well."""
        hours = self._working.config.roster.policy_hours.get(policy.name)
        return hours is None or severity is Severity.P0 or hours.contains(now_ms)

    def _mute(self, number: int, storm: int, now_ms: int) -> None:
        names = self._working.incidents[number].muted_by | {storm_name(storm)}
        self._tell(number, Mutes(names), now_ms)

    def _tell(self, number: int, event: Event, now_ms: int) -> None:
        working = self._working
        incident = working.incidents[number]
        working.apply(transition(incident, event, now_ms, working.config), now_ms)

    def update(self, now_ms: int) -> bool:
        """After everybody's mutes are known: whether there is more to do, in another step."""
        working = self._working
        opened, self._opened = self._opened, []
        for number in opened:
            incident = working.incidents.get(number)
            if incident is not None and self._waits_to_page(incident):
                if names := self.admit(incident, now_ms):
                    self._tell(number, Mutes(names), now_ms)
        if not working.storms.stirred and not working.storms.quieted:
            return self._acknowledge(now_ms)
        changed, working.storms.changed = list(working.storms.changed), {}
        worsened, working.storms.worsened = working.storms.worsened, set()
        for number in changed:
            self._follow_member(number, number in worsened, now_ms)
        stirred, working.storms.stirred = sorted(working.storms.stirred), set()
        for number in stirred:
            self._follow(number, now_ms)
        working.mutes_dirty.update(working.storms.quieted & working.incidents.keys())
        working.storms.quieted.clear()
        return self._acknowledge(now_ms)

    def _follow_member(self, number: int, worsened: bool, now_ms: int) -> None:
        """One that got worse: a P0 may be told singly now, else its storm is as bad as it is."""
        working = self._working
        member = working.incidents.get(number)
        storm = working.incidents.get(member.storm) if member else None
        if member is None or storm is None or not member.counts_as_firing:
            return
        anew = worsened and member.severity in URGENT
        if not anew and not member.severity.worse_than(storm.severity):
            return
        if _is_only_muted_by(member, storm):
            if self._may_leave(member, storm, now_ms):
                self.release(member, now_ms)
                return
        elif member.muted:
            anew = False
        policy, worst = joint_policy(storm, member), min(member.severity, storm.severity)
        grown = StormGrew(policy, worst, storm.joined, storm.lost, anew=anew)
        self._tell(storm.number, grown, now_ms)

    def _may_leave(self, member: Incident, storm: Incident, now_ms: int) -> bool:
        """Whether one that got worse is told singly: an owner of it would not be paged by that."""
        if member.severity not in URGENT or member.state is not IncidentState.TRIGGERED:
            return False
        if not storm.is_open:
            return True
        if member.severity is not Severity.P0:
            return False
        limit = self._working.config.storm or StormLimit()
        self._remember(member.number, now_ms, limit)
        return self._is_single(member, limit)

    def release(self, member: Incident, now_ms: int) -> None:
        """It is told singly from now on."""
        self._working.apply((replace(member, told_singly=True), ()), now_ms)
        self._working.mutes_dirty.add(member.number)

    def _follow(self, number: int, now_ms: int) -> None:
        working = self._working
        storm, tally = working.incidents.get(number), working.storms.of(number)
        if storm is None or not storm.counts_as_firing:
            self._free(tally)
            return
        lost = max(storm.lost, len(tally.lost))
        if lost != storm.lost:
            grown = StormGrew(storm.policy, storm.severity, storm.joined, lost)
            self._tell(number, grown, now_ms)
        if not tally.firing:
            self._end(number, now_ms)
        elif storm.state is IncidentState.TRIGGERED:
            self._acknowledge_storm(storm, tally, now_ms)
        elif storm.state is IncidentState.ACKED and not storm.assigned_by:
            self._spread_acknowledgement(storm, tally)

    def _free(self, tally: StormTally) -> None:
        """Nothing tells of these any more; those that fire are to page."""
        self._working.mutes_dirty.update(tally.firing & self._working.incidents.keys())

    def _end(self, number: int, now_ms: int) -> None:
        working = self._working
        storm = working.incidents[number]
        kind = EventKind.REMOVED if storm.lost else EventKind.CLEAR
        why = f"the state of {storm.lost} of {storm.joined} incidents is unknown"
        event = storm_event(number, now_ms, kind, why if storm.lost else "")
        self._tell(number, event, now_ms)
        working.set_subject_timer(f"{SUBJECT}:{number}", None)

    def _acknowledge_storm(self, storm: Incident, tally: StormTally, now_ms: int) -> None:
        """Somebody just took the last of its incidents: it has its owner."""
        if not tally.firing <= tally.answered:
            return
        owners = [
            one.owner
            for one in (self._working.incidents[number] for number in tally.firing)
            if one.state is IncidentState.ACKED and one.acked_at_ms == now_ms and one.owner
        ]
        if owners:
            note = "each of its incidents is acknowledged"
            self._tell(storm.number, Action(Verb.ACK, storm.number, owners[0], note), now_ms)

    def _spread_acknowledgement(self, storm: Incident, tally: StormTally) -> None:
        """Those that it told of when it was acknowledged are acknowledged with it, once."""
        acked_at_ms = storm.acked_at_ms or 0
        if self._spread.get(storm.number) == acked_at_ms:
            return
        self._spread[storm.number] = acked_at_ms
        incidents = self._working.incidents
        self._to_acknowledge += [
            (number, storm.number)
            for number in sorted(tally.firing - tally.answered)
            if _was_told(incidents[number]) <= acked_at_ms
        ]

    def _acknowledge(self, now_ms: int) -> bool:
        """Some of them at a time; whether there are more."""
        working = self._working
        part, self._to_acknowledge = self._to_acknowledge[:_PART], self._to_acknowledge[_PART:]
        for number, in_storm in part:
            member, storm = working.incidents.get(number), working.incidents.get(in_storm)
            if member is None or storm is None or storm.state is not IncidentState.ACKED:
                continue
            if member.state is IncidentState.TRIGGERED and member.storm == in_storm:
                note = f"with storm #{in_storm}"
                self._tell(number, Action(Verb.ACK, number, storm.owner, note), now_ms)
        return bool(self._to_acknowledge)

    def act(self, action: Action, now_ms: int) -> None:
        """What a person does to one of a storm alone, and that somebody is to hear of, is told
        singly. Raises Conflict."""
        working = self._working
        incident = working.incidents[action.incident]
        if action.verb in _LEAVES and incident.storm and not incident.is_storm:
            left = incident.muted_by - {storm_name(incident.storm)}
            single = replace(incident, told_singly=True, muted_by=left)
            change = transition(single, action, now_ms, working.config)
            unmuted = Record("unmuted", data={"by": storm_name(incident.storm)})
            working.apply((single, (unmuted,)), now_ms)
            working.apply(change, now_ms)
        else:
            self._tell(action.incident, action, now_ms)

    def loaded(self) -> None:
        """After a start: what began to page shortly before, and which of P0 were told singly."""
        alone = [
            one
            for one in self._working.incidents.values()
            if one.is_open and not one.muted and not one.is_storm and not one.drill
        ]
        self._recent = {one.number: one.opened_at_ms for one in sorted(alone, key=_opened)}
        self._early = {one.number for one in alone if one.severity is not Severity.P0}
        worst = (one for one in alone if one.severity is Severity.P0)
        self._singles = {one.number: _alert_name(one) for one in worst}


def tell_of_growth(working: WorkingSet, subject: str, now_ms: int) -> None:
    """Every few minutes, as long as the storm lasts: what joined since its last page."""
    number = int(subject.partition(":")[2])
    storm = working.incidents.get(number)
    if storm is None or not storm.counts_as_firing:
        return
    grown = StormGrew(storm.policy, storm.severity, storm.joined, storm.lost, update=True)
    working.apply(transition(storm, grown, now_ms, working.config), now_ms)
    working.set_subject_timer(subject, now_ms + UPDATE_MS)


def _is_only_muted_by(member: Incident, storm: Incident) -> bool:
    return member.muted_by <= {storm_name(storm.number)}


def _opened(incident: Incident) -> int:
    return incident.opened_at_ms


def _was_told(member: Incident) -> int:
    """Since when its storm tells of it, as far as that is known: it may be older than the storm."""
    return max(member.opened_at_ms, member.muted_at_ms or 0)


def _says_that_we_are_blind(incident: Incident) -> bool:
    """What the pager says of its own eyes and mouths, of each of which the configuration has few:
    it is most likely why the others open, and no summary of them says it."""
    origins = (origin for member in incident.active for origin in member.origins)
    return any(origin.startswith((STORE, CHANNEL)) for origin in origins)


def _alert_name(incident: Incident) -> str:
    named = dict(incident.group_labels).get("alertname", "")
    return named or next((member.alert.name for member in incident.members.values()), "")
