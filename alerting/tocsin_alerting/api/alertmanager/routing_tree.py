"""Our routing as Alertmanager's: a tree of routes with the same answers, written as YAML.

An Alertmanager receiver is here what a policy is: the people and ways for a kind of alert. What a
route adds is a receiver of its own. Where ours goes through a flat list and remembers what it has
found, a tree must have that in its shape: below a route that decides something stand the routes
that follow it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tocsin_alerting.incidents.alert_matcher import AlertMatcher
from tocsin_alerting.incidents.routing import (
    EVERY_LABEL,
    IncidentConfig,
    InhibitRule,
    Route,
    matching_routes,
)
from tocsin_alerting.rules.severity import (
    NEVER_PAGED,
    SEVERITY_LABEL,
    Severity,
    severity_of,
)
from tocsin_alerting.time_format import format_duration

Node = dict[str, Any]
_PLAIN_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def receivers_of(config: IncidentConfig, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The policy that an alert with these labels follows, and what its routes add."""
    severity = severity_of(labels.get(SEVERITY_LABEL, ""), config.severity_words)
    if severity is None:
        return (NEVER_PAGED,)
    policy: str | None = None
    added: list[str] = []
    for route in matching_routes(config, labels):
        policy = policy or route.policy
        added += _added(route)
    return tuple(dict.fromkeys((policy or severity.value, *added)))


def _added(route: Route) -> list[str]:
    return list(dict.fromkeys(map(str, route.receivers_add)))


def receiver_names(config: IncidentConfig) -> list[str]:
    """Every name that `receivers_of` may give."""
    added = {name for route in config.routes for name in _added(route)}
    return sorted({*config.policies, *added, NEVER_PAGED})


def alertmanager_yaml(config: IncidentConfig, resolve_timeout_ms: int) -> str:
    """A configuration that Alertmanager reads; it has no secret, and no way to reach anybody."""
    return yaml.safe_dump(
        {
            "global": {"resolve_timeout": format_duration(resolve_timeout_ms)},
            "route": route_tree(config),
            "inhibit_rules": [_inhibit_rule(rule) for rule in config.inhibit],
            "receivers": [{"name": name} for name in receiver_names(config)],
        },
        sort_keys=False,
        allow_unicode=True,
    )


def _inhibit_rule(rule: InhibitRule) -> Node:
    return {
        "source_matchers": [_text(matcher) for matcher in rule.source],
        "target_matchers": [_text(matcher) for matcher in rule.target],
        "equal": list(rule.equal),
    }


@dataclass(frozen=True, slots=True)
class _Decided:
    """What the routes before have settled; None: nothing yet."""

    policy: str | None = None
    group_by: tuple[str, ...] | None = None

    def after(self, route: Route) -> "_Decided":
        group_by = route.group_by if self.group_by is None else self.group_by
        return _Decided(self.policy or route.policy, group_by)


def route_tree(config: IncidentConfig) -> Node:
    never = _node(NEVER_PAGED, AlertMatcher(SEVERITY_LABEL, "=", NEVER_PAGED))
    tree = _Tree(config)
    return {
        "receiver": Severity.P2.value,
        "group_by": _group_by(config.group.by),
        "routes": [never, *tree.nodes(0, _Decided())],
    }


class _Tree:
    def __init__(self, config: IncidentConfig) -> None:
        self._config = config

    def nodes(self, first: int, decided: _Decided) -> list[Node]:
        """The routes from number `first` on, where those before have settled `decided`."""
        nodes: list[Node] = []
        for number, route in enumerate(self._config.routes[first:], first):
            after, added = decided.after(route), _chain(_added(route))
            if route.continue_ and after == decided:  # it adds receivers, or does nothing
                nodes += [{**node, **_matching(route)} for node in added]
                continue
            following = self.nodes(number + 1, after) if route.continue_ else self._outcome(after)
            nodes.append(self._parent(route, [*added, *following], decided))
            if not route.matchers:
                return nodes
        return [*nodes, *self._outcome(decided)]

    def _parent(self, route: Route, children: Sequence[Node], decided: _Decided) -> Node:
        """Its children always decide; its own receiver is never used."""
        by = route.group_by if decided.group_by is None else None
        own = _matching(route) | ({} if by is None else {"group_by": _group_by(by)})
        if len(children) == 1 and "matchers" not in children[0]:
            return {**own, **children[0]}
        return {"receiver": children[-1]["receiver"], **own, "routes": list(children)}

    def _outcome(self, decided: _Decided) -> list[Node]:
        """The nodes of which exactly one matches whatever comes here."""
        if decided.policy is not None:
            return [self._policy(decided.policy)]
        return [*self._by_severity(), self._policy(Severity.P2.value)]

    def _by_severity(self) -> Iterator[Node]:
        """Each policy that is called like a severity, by the labels that mean it."""
        for severity in Severity:
            if severity is Severity.P2:
                continue
            words = "|".join((severity.value, *_words(self._config, severity)))
            yield self._policy(severity.value, AlertMatcher(SEVERITY_LABEL, "=~", words))

    def _policy(self, name: str, *matchers: AlertMatcher) -> Node:
        wait_ms = self._config.policies[name].group_wait_ms
        return {**_node(name, *matchers), "group_wait": format_duration(wait_ms)}


def _chain(names: Sequence[str]) -> list[Node]:
    return [{**_node(name), "continue": True} for name in names]


def _node(receiver: str, *matchers: AlertMatcher) -> Node:
    return {"receiver": receiver, **_matching(Route(matchers))}


def _matching(route: Route) -> Node:
    return {"matchers": list(map(_text, route.matchers))} if route.matchers else {}


def _words(config: IncidentConfig, severity: Severity) -> Iterator[str]:
    """Severity words hold in any case: `Critical` is `critical`; as a regular expression."""
    for word, meant in config.severity_words.items():
        if meant is severity and word == word.lower():
            yield f"(?i:{_escaped(word)})"


def _escaped(word: str) -> str:
    return "".join(char if char.isalnum() or char == "_" else f"\\{char}" for char in word)


def _group_by(names: Sequence[str]) -> list[str]:
    return [EVERY_LABEL] if EVERY_LABEL in names else list(dict.fromkeys(names))


def _text(matcher: AlertMatcher) -> str:
    """As Alertmanager reads it: it knows three escapes, and names of any characters since 0.27."""
    plain = _PLAIN_NAME.fullmatch(matcher.name)
    return f"{matcher.name if plain else _quoted(matcher.name)}{matcher.op}{_quoted(matcher.value)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
