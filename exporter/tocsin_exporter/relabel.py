"""Relabelling as Prometheus does it: rules that change, keep or drop a set of labels.

Actions and defaults: https://prometheus.io/docs/prometheus/latest/configuration/configuration/
#relabel_config. Patterns are RE2, anchored at both ends, and a dot matches a line break.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import re2

LabelSet: TypeAlias = dict[str, str]
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)
_TEMPLATE = re.compile(r"(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))(?:\w|\$(?:\{\w+\}|\w+))*", re.ASCII)


@lru_cache(4096)
def anchored(pattern: str) -> Any:
    """The compiled pattern. Raises ValueError where RE2 refuses it."""
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(f"^(?:{pattern})$", options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise ValueError(said.decode() if isinstance(said, bytes) else str(said)) from None


@dataclass(frozen=True, slots=True)
class Relabel:
    """One rule. `modulus` 0 stands for none. Raises ValueError for what Prometheus refuses."""

    action: str = "replace"
    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    regex: str = "(.*)"
    modulus: int = 0
    target_label: str = ""
    replacement: str = "$1"
    _regex: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"unknown action {self.action!r}; one of {', '.join(ACTIONS)}")
        object.__setattr__(self, "_regex", anchored(self.regex))
        for check in _CHECKS:
            if trouble := check(self):
                raise ValueError(trouble)

    def apply(self, labels: LabelSet) -> bool:
        """Change `labels`; False where this rule drops them."""
        return ACTIONS[self.action](self, labels)

    def joined(self, labels: LabelSet) -> str:
        return self.separator.join(labels.get(name, "") for name in self.source_labels)

    def matches(self, text: str) -> Any:
        return self._regex.match(text)


def relabelled(labels: Mapping[str, str], rules: Sequence[Relabel]) -> LabelSet | None:
    """The labels after all rules, without empty ones; None when one drops them."""
    changed = {name: value for name, value in labels.items() if value}
    for rule in rules:
        if not rule.apply(changed):
            return None
    return changed


def expand(template: str, match: Any) -> str:
    """Go's Regexp.Expand: `$1`, `${1}`, `$name`, `$$`; a group that is not there is empty."""

    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return match.group(int(name) if name.isdigit() else name) or ""
        except (IndexError, KeyError):
            return ""

    return _REFERENCE.sub(group, template)


def _set(labels: LabelSet, name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def _replace(rule: Relabel, labels: LabelSet) -> bool:
    match = rule.matches(rule.joined(labels))
    if match is not None:
        name = expand(rule.target_label, match)
        if LABEL_NAME.fullmatch(name):
            _set(labels, name, expand(rule.replacement, match))
    return True


def _keep(rule: Relabel, labels: LabelSet) -> bool:
    return rule.matches(rule.joined(labels)) is not None


def _drop(rule: Relabel, labels: LabelSet) -> bool:
    return rule.matches(rule.joined(labels)) is None


def _keep_equal(rule: Relabel, labels: LabelSet) -> bool:
    return rule.joined(labels) == labels.get(rule.target_label, "")


def _drop_equal(rule: Relabel, labels: LabelSet) -> bool:
    return rule.joined(labels) != labels.get(rule.target_label, "")


def _hash_mod(rule: Relabel, labels: LabelSet) -> bool:
    digest = hashlib.md5(rule.joined(labels).encode(), usedforsecurity=False).digest()
    labels[rule.target_label] = str(int.from_bytes(digest[8:], "big") % rule.modulus)
    return True


def _label_map(rule: Relabel, labels: LabelSet) -> bool:
    for name, value in list(labels.items()):
        match = rule.matches(name)
        if match is not None:
            _set(labels, expand(rule.replacement, match), value)
    return True


def _label_drop(rule: Relabel, labels: LabelSet) -> bool:
    for name in [name for name in labels if rule.matches(name) is not None]:
        del labels[name]
    return True


def _label_keep(rule: Relabel, labels: LabelSet) -> bool:
    for name in [name for name in labels if rule.matches(name) is None]:
        del labels[name]
    return True


def _lowercase(rule: Relabel, labels: LabelSet) -> bool:
    _set(labels, rule.target_label, rule.joined(labels).lower())
    return True


def _uppercase(rule: Relabel, labels: LabelSet) -> bool:
    _set(labels, rule.target_label, rule.joined(labels).upper())
    return True


ACTIONS: Mapping[str, Callable[[Relabel, LabelSet], bool]] = {
    "replace": _replace,
    "keep": _keep,
    "drop": _drop,
    "keepequal": _keep_equal,
    "dropequal": _drop_equal,
    "hashmod": _hash_mod,
    "labelmap": _label_map,
    "labeldrop": _label_drop,
    "labelkeep": _label_keep,
    "lowercase": _lowercase,
    "uppercase": _uppercase,
}
_NEEDS_TARGET = ("replace", "keepequal", "dropequal", "hashmod", "lowercase", "uppercase")
_USUAL: Mapping[str, Any] = {"separator": ";", "regex": "(.*)", "modulus": 0, "replacement": "$1"}
_ALONE: Mapping[str, tuple[str, ...]] = {  # what else these may not have
    "keepequal": ("separator", "regex", "modulus", "replacement"),
    "dropequal": ("separator", "regex", "modulus", "replacement"),
    "labeldrop": ("source_labels", "target_label", "separator", "modulus", "replacement"),
    "labelkeep": ("source_labels", "target_label", "separator", "modulus", "replacement"),
    "lowercase": ("replacement",),
    "uppercase": ("replacement",),
}


def _unwanted(rule: Relabel) -> str:
    given = [
        name
        for name in _ALONE.get(rule.action, ())
        if getattr(rule, name) != _USUAL.get(name, type(getattr(rule, name))())
    ]
    return f"{rule.action} takes no {', '.join(given)}" if given else ""


def _modulus(rule: Relabel) -> str:
    if rule.action == "hashmod" and not rule.modulus:
        return "hashmod needs a modulus that is not 0"
    return ""


def _target(rule: Relabel) -> str:
    if rule.action not in _NEEDS_TARGET:
        return ""
    if not rule.target_label:
        return f"{rule.action} needs a target_label"
    plain = rule.action != "replace"
    if (LABEL_NAME if plain else _TEMPLATE).fullmatch(rule.target_label) is None:
        return f"{rule.target_label!r} is not a label name"
    return ""


def _mapped(rule: Relabel) -> str:
    if rule.action == "labelmap" and _TEMPLATE.fullmatch(rule.replacement) is None:
        return f"{rule.replacement!r} is not a label name, which labelmap needs"
    return ""


_CHECKS = (_modulus, _target, _mapped, _unwanted)
