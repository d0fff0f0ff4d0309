"""Who is kept quiet by whom: while the engine is down, nobody needs to hear that it is slow."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tocsin_alerting.incidents.grouping import address_of, machine_of
from tocsin_alerting.incidents.incident import ENDED, Incident
from tocsin_alerting.incidents.matcher import all_match
from tocsin_alerting.incidents.muting import INHIBITED
from tocsin_alerting.incidents.routing import IncidentConfig, InhibitRule

Labels = Mapping[str, str]
Loud = dict[tuple[str, ...], set[tuple[int, bool]]]


@dataclass(frozen=True, slots=True)
class Inhibition:
    """One rule with what fires on its source side: equal labels -> (incident, is a target too)."""

    rule: InhibitRule
    loud: Loud
    local: Collection[str]

    def sources_of(self, labels: Labels) -> set[int]:
        """The incidents that keep an alert with `labels` quiet.

        As in Alertmanager, an alert on both sides is not kept quiet by one that is on both too.
        """
        if not all_match(self.rule.target, labels):
            return set()
        on_both = all_match(self.rule.source, labels)
        found = self.loud.get(_equal(self.rule, labels, self.local), set())
        return {number for number, both in found if not (both and on_both)}


class Inhibitor:
    """Tells of the incidents that changed who keeps them quiet; of all when a source changed."""

    def __init__(self) -> None:
        self._rules: Sequence[InhibitRule] = ()
        self._indexed: Sequence[Inhibition] | None = None

    def forget(self) -> None:
        """What fires on the source side of the rules is to be looked up anew."""
        self._indexed = None

    def muted(
        self,
        config: IncidentConfig,
        changed: Iterable[Incident],
        every: Collection[Incident],
    ) -> dict[int, frozenset[str]]:
        """What mutes each open one of `changed`, or of `every` incident where it may differ."""
        some, rules = list(changed), config.inhibit
        if rules is not self._rules or any(self._is_source(rules, one) for one in some):
            self.forget()
        if self._indexed is None:
            self._rules, self._indexed = rules, indexed(config, every)
            return inhibitions(config, every)
        return {
            one.number: named(quieted_by(self._indexed, one, {one.number}))
            for one in some
            if one.is_open
        }

    def _is_source(self, rules: Sequence[InhibitRule], incident: Incident) -> bool:
        members = incident.members.values()
        return any(is_source(rules, dict(one.alert.labels)) for one in members)


def indexed(config: IncidentConfig, incidents: Iterable[Incident]) -> list[Inhibition]:
    """The rules of which something fires on the source side."""
    every, local = [one for one in incidents if one.fires_on], config.local_names
    found = (Inhibition(rule, _loud(rule, every, local), local) for rule in config.inhibit)
    return [one for one in found if one.loud]


def inhibitions(config: IncidentConfig, incidents: Iterable[Incident]) -> dict[int, frozenset[str]]:
    """What mutes each open incident: an incident is quiet when each of its active alerts is.

    None keeps itself quiet, and of two that would silence each other the worse stays loud.
    """
    every = list(incidents)
    still_open = [one for one in every if one.is_open]
    if not config.inhibit:
        return {one.number: frozenset() for one in still_open}
    in_order = sorted(still_open, key=lambda one: (one.severity, one.number))
    prepared = indexed(config, every)
    found = {one.number: quieted_by(prepared, one, {one.number}) for one in in_order}
    quiet: dict[int, frozenset[str]] = {}
    milder = {one.number for one in in_order}
    for one in in_order:
        milder.discard(one.number)
        mutual = {other for other in found[one.number] & milder if one.number in found[other]}
        sources = quieted_by(prepared, one, mutual | {one.number}) if mutual else found[one.number]
        quiet[one.number] = named(sources)
    return quiet


def quieted_by(prepared: Sequence[Inhibition], incident: Incident, excluded: set[int]) -> set[int]:
    every: set[int] = set()
    for member in incident.active:
        labels = dict(member.alert.labels)
        sources = {number for one in prepared for number in one.sources_of(labels)} - excluded
        if not sources:
            return set()
        every |= sources
    return every


def named(sources: Iterable[int]) -> frozenset[str]:
    return frozenset(f"{INHIBITED}{number}" for number in sources)


def is_source(rules: Sequence[InhibitRule], labels: Labels) -> bool:
    return any(all_match(rule.source, labels) for rule in rules)


def _loud(rule: InhibitRule, incidents: Iterable[Incident], local: Collection[str]) -> Loud:
    loud: Loud = {}
    for incident in incidents:
        for member in incident.members.values():
            labels = dict(member.alert.labels)
            if member.source not in ENDED and all_match(rule.source, labels):
                both = all_match(rule.target, labels)
                loud.setdefault(_equal(rule, labels, local), set()).add((incident.number, both))
    return loud


def _equal(rule: InhibitRule, labels: Labels, local: Collection[str]) -> tuple[str, ...]:
    """A missing label equals an empty one; of addresses the place counts, not how it is written.

    A target on the loopback is told apart by the machine, as in grouping.
    """
    values = {name: labels.get(name, "") for name in rule.equal}
    address = address_of(values.get("target", ""))
    if address is None:
        return tuple(values.values())
    machine = machine_of(labels.get("instance", ""), local) if address.on_loopback else ""
    return (*{**values, "target": str(address)}.values(), machine)
