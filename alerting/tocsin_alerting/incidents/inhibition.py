"""Who is kept quiet by whom: while the engine is down, nobody needs to hear that it is slow."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tocsin_alerting.incidents.alert_matcher import all_match
from tocsin_alerting.incidents.grouping import address_of, machine_of
from tocsin_alerting.incidents.incident import ENDED_CONDITIONS, Incident
from tocsin_alerting.incidents.muting import INHIBITED
from tocsin_alerting.incidents.routing import IncidentConfig, InhibitRule

Labels = Mapping[str, str]
_MOST_KNOWN = 20_000  # alerts
FiringSources = dict[tuple[str, ...], set[tuple[int, bool]]]


@dataclass(frozen=True, slots=True)
class Inhibition:
    """One rule with what fires on its source side: equal labels -> (incident, is a target too)."""

    rule: InhibitRule
    firing_sources: FiringSources
    local: Collection[str]

    def sources_of(self, labels: Labels) -> set[int]:
        """The incidents that keep an alert with `labels` quiet.

        As in Alertmanager, an alert on both sides is not kept quiet by one that is on both too.
        """
        if not all_match(self.rule.target, labels):
            return set()
        on_both = all_match(self.rule.source, labels)
        sources = self.firing_sources.get(_equal(self.rule, labels, self.local), set())
        return {number for number, both in sources if not (both and on_both)}


class Inhibitor:
    """Tells of the incidents that changed who keeps them quiet; of all when a source changed."""

    def __init__(self) -> None:
        self._rules: Sequence[InhibitRule] = ()
        self._index: Sequence[Inhibition] | None = None
        self._are_sources: dict[tuple[tuple[str, str], ...], bool] = {}  # of these rules

    def invalidate(self) -> None:
        """What fires on the source side of the rules is to be looked up anew."""
        self._index = None

    def mutes_of(
        self,
        config: IncidentConfig,
        changed: Iterable[Incident],
        every: Collection[Incident],
    ) -> dict[int, frozenset[str]]:
        """What mutes each open one of `changed`, or of `every` incident where it may differ."""
        incidents, rules = list(changed), config.inhibit
        if rules is not self._rules:
            self._rules, self._are_sources = rules, {}
            self.invalidate()
        elif any(self._is_source(rules, incident) for incident in incidents):
            self.invalidate()
        if self._index is None:
            self._index = index_rules(config, every)
            return inhibitions(config, every)
        return {
            incident.number: mute_names(muting_incidents(self._index, incident, {incident.number}))
            for incident in incidents
            if incident.is_open
        }

    def _is_source(self, rules: Sequence[InhibitRule], incident: Incident) -> bool:
        """Whether any of its alerts is; one of a thousand alerts is asked for at each of them."""
        known = self._are_sources
        if len(known) > _MOST_KNOWN:
            known.clear()
        for member in incident.members.values():
            labels = member.alert.labels
            if labels not in known:
                known[labels] = matches_source(rules, dict(labels))
            if known[labels]:
                return True
        return False


def index_rules(config: IncidentConfig, incidents: Iterable[Incident]) -> list[Inhibition]:
    """The rules of which something fires on the source side."""
    every, local = (
        [one for one in incidents if one.counts_as_firing and not one.drill],
        config.local_names,
    )
    inhibitions = (
        Inhibition(rule, _firing_sources(rule, every, local), local) for rule in config.inhibit
    )
    return [inhibition for inhibition in inhibitions if inhibition.firing_sources]


def inhibitions(config: IncidentConfig, incidents: Iterable[Incident]) -> dict[int, frozenset[str]]:
    """What mutes each open incident: an incident is quiet when each of its active alerts is.

    None keeps itself quiet, and of two that would silence each other the worse stays loud.
    """
    every = list(incidents)
    still_open = [incident for incident in every if incident.is_open]
    if not config.inhibit:
        return {incident.number: frozenset() for incident in still_open}
    in_order = sorted(still_open, key=lambda incident: (incident.severity, incident.number))
    prepared = index_rules(config, every)
    muting = {
        incident.number: muting_incidents(prepared, incident, {incident.number})
        for incident in in_order
    }
    quiet: dict[int, frozenset[str]] = {}
    milder = {incident.number for incident in in_order}
    for incident in in_order:
        milder.discard(incident.number)
        mutual = {
            other for other in muting[incident.number] & milder if incident.number in muting[other]
        }
        sources = (
            muting_incidents(prepared, incident, mutual | {incident.number})
            if mutual
            else muting[incident.number]
        )
        quiet[incident.number] = mute_names(sources)
    return quiet


def muting_incidents(
    prepared: Sequence[Inhibition], incident: Incident, excluded: set[int]
) -> set[int]:
    every: set[int] = set()
    if incident.drill:
        return every
    for member in incident.loud:
        labels = dict(member.alert.labels)
        sources = {
            number for inhibition in prepared for number in inhibition.sources_of(labels)
        } - excluded
        if not sources:
            return set()
        every |= sources
    return every


def mute_names(sources: Iterable[int]) -> frozenset[str]:
    return frozenset(f"{INHIBITED}{number}" for number in sources)


class InhibitingAlerts:
    """The alerts of some incidents that inhibit others, one for each rule, as Alertmanager names
    the first that it finds."""

    def __init__(self, config: IncidentConfig, sources: Iterable[Incident]) -> None:
        self._local = config.local_names
        every = [
            (name, dict(member.alert.labels))
            for incident in sources
            for name, member in incident.members.items()
            if member.source not in ENDED_CONDITIONS
        ]
        self._rules = [(rule, self._found(rule, every)) for rule in config.inhibit]

    def _found(
        self, rule: InhibitRule, every: Iterable[tuple[str, Labels]]
    ) -> dict[tuple[bool, tuple[str, ...]], str]:
        """Their fingerprints by whether they are targets too, and by the equal labels."""
        found: dict[tuple[bool, tuple[str, ...]], str] = {}
        for name, labels in every:
            if all_match(rule.source, labels):
                both = all_match(rule.target, labels)
                found.setdefault((both, _equal(rule, labels, self._local)), name)
        return found

    def of(self, labels: Labels) -> list[str]:
        """Those that inhibit an alert with these labels."""
        names: set[str] = set()
        for rule, found in self._rules:
            if found and all_match(rule.target, labels):
                equal = _equal(rule, labels, self._local)
                both = all_match(rule.source, labels)
                kinds = (False,) if both else (False, True)
                names.update(found[kind, equal] for kind in kinds if (kind, equal) in found)
        return sorted(names)


def matches_source(rules: Sequence[InhibitRule], labels: Labels) -> bool:
    return any(all_match(rule.source, labels) for rule in rules)


def _firing_sources(
    rule: InhibitRule, incidents: Iterable[Incident], local: Collection[str]
) -> FiringSources:
    loud: FiringSources = {}
    for incident in incidents:
        for member in incident.members.values():
            labels = dict(member.alert.labels)
            if member.source not in ENDED_CONDITIONS and all_match(rule.source, labels):
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
