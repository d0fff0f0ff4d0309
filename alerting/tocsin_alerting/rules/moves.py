"""What makes a rule the same over a reload, and which rules their groups lose and get."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from tocsin_alerting.rules.alert import Alert, rules_origin
from tocsin_alerting.rules.instance_journal import InstanceRow
from tocsin_alerting.rules.rule import Rule, RuleGroup
from tocsin_alerting.rules.state import GroupState, RuleState
from tocsin_exporter.slices import Work

SLICE_RULES = 20  # some milliseconds
GroupKey = tuple[str, str]


def rule_moves(
    before: Mapping[GroupKey, GroupState], wanted: Mapping[GroupKey, RuleGroup]
) -> tuple[list[RuleState], dict[str, Rule]]:
    """The rules that their groups lose, and by origin those that they get."""
    leaving: list[RuleState] = []
    arriving: dict[str, Rule] = {}
    for key, state in before.items():
        if (group := wanted.get(key)) is None:
            leaving += state.rules
        elif group is not state.group:
            left = by_identity(state.rules)
            for rule in group.rules:
                if same := left.get(identity(rule)):
                    same.pop(0)
                else:
                    arriving[rules_origin(group.file, rule.uid)] = rule
            leaving += [rule for rules in left.values() for rule in rules]
    for key in wanted.keys() - before.keys():
        arriving |= {rules_origin(key[0], rule.uid): rule for rule in wanted[key].rules}
    return leaving, arriving


def new_states(
    wanted: Mapping[GroupKey, RuleGroup], arriving: Mapping[str, Rule]
) -> Work[Mapping[str, RuleState]]:
    """The states of the rules that are new, by origin: to find out what they read takes the longest
    of a reload, and changes nothing yet."""
    fresh: dict[str, RuleState] = {}
    for group in wanted.values():
        for rule in group.rules:
            origin = rules_origin(group.file, rule.uid)
            if arriving.get(origin) is rule:
                fresh[origin] = RuleState(*group.key, rule)
                if len(fresh) % SLICE_RULES == 0:
                    yield
    return fresh


def unchanged(inherited: Mapping[str, str], leaving: Iterable[RuleState]) -> dict[str, str]:
    """A rule in the place of one with other labels is another one: what that said has ended."""
    gone = {rule.origin for rule in leaving}
    return {new: old for new, old in inherited.items() if new != old or old not in gone}


def alerts_of_rows(rows: Iterable[InstanceRow]) -> list[Alert]:
    about = (row.alert or (row.unknown_alert and row.unknown_alert.alert) for row in rows)
    return [alert for alert in about if alert]


def identity(rule: Rule) -> object:
    """What makes a rule the same over a reload: changing only the rest keeps its alerts."""
    return type(rule), rule.name, rule.labels


def changed_parts(before: Rule, now: Rule) -> str:
    """What of a rule that is the same over a reload is another one, in the words of its file."""
    return ", ".join(
        words
        for words, name in _PARTS.items()
        if getattr(before, name, None) != getattr(now, name, None)
    )


_PARTS = {
    "expr": "expr",
    "for": "for_ms",
    "keep_firing_for": "keep_firing_for_ms",
    "annotations": "annotations",
}


def by_identity(rules: Iterable[RuleState]) -> dict[object, list[RuleState]]:
    by_identity: dict[object, list[RuleState]] = defaultdict(list)
    for rule in rules:
        by_identity[identity(rule.rule)].append(rule)
    return by_identity
