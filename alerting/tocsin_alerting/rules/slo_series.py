"""Series that a pair of selectors tells apart: what counts as good, and what only as tried."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp

_USUAL = ("", "error", "500", "success", "200", "other", "1", "0", "x")
_REWRITES = (
    (re.compile(r"\\[dD]"), "0"),
    (re.compile(r"\\[wWsSbB]"), "a"),
    (re.compile(r"\[\^[^\]]*\]"), "_"),
    (re.compile(r"\[(.)[^\]]*\]"), r"\1"),
    (re.compile(r"\.\*"), ""),
    (re.compile(r"(?<!\\)\.\+?"), "0"),
    (re.compile(r"\\(.)"), r"\1"),
    (re.compile(r"[+*?^$]"), ""),
)
_GROUP = re.compile(r"\((?:\?:)?([^()|]*)[^()]*\)")


class InvalidSelectors(ValueError):
    """What is wrong with the selectors; `key` is the one to correct."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class SloSeries:
    """`good` is a series that the good selector takes. `other` is one of failures where both
    selectors have one metric (`apart` is False), and else one that counts all."""

    good: str
    other: str
    apart: bool


def slo_series(good: VectorSelector, total: VectorSelector) -> SloSeries:
    """Raises InvalidSelectors where no share can be made of them."""
    wants, counts = (_by_label(selector) for selector in (good, total))
    if good.name != total.name:
        names = zip(("good", "total"), (good, total), (wants, counts), strict=True)
        one, other = (_notation(s.name, _chosen(key, by)) for key, s, by in names)
        return SloSeries(one, other, apart=True)
    both = {name: (*wants.get(name, ()), *counts.get(name, ())) for name in {**wants, **counts}}
    labels = _chosen("good", both, "no series is both good and counted by total")
    _refuse_uncounted(wants, counts)
    bad = next(_failures(labels, wants, counts), None)
    if bad is None:
        raise InvalidSelectors("total", "all that total counts is good; widen it")
    return SloSeries(_notation(good.name, labels), _notation(good.name, bad), apart=False)


def _by_label(selector: VectorSelector) -> dict[str, tuple[Matcher, ...]]:
    (matchers,) = selector.matcher_sets
    named = [matcher for matcher in matchers if matcher.name != "__name__"]
    return {
        name: tuple(one for one in named if one.name == name)
        for name in dict.fromkeys(matcher.name for matcher in named)
    }


def _chosen(key: str, wanted: Mapping[str, tuple[Matcher, ...]], why: str = "") -> dict[str, str]:
    """A value for each label."""
    labels = {}
    for name, matchers in wanted.items():
        value = next(_values(matchers), None)
        if value is None:
            written = ", ".join(f'{m.name}{m.op}"{m.value}"' for m in matchers)
            raise InvalidSelectors(key, why or f"no value was found that {written} takes")
        labels[name] = value
    return labels


def _values(matchers: Iterable[Matcher], among: Iterable[Matcher] = ()) -> Iterator[str]:
    """What these matchers take, of what they and others name."""
    every = tuple(matchers)
    for value in (*_named((*every, *among)), *_USUAL):
        if all(matcher.matches(value) for matcher in every):
            yield value


def _named(matchers: Iterable[Matcher]) -> Iterator[str]:
    for matcher in matchers:
        if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
            yield matcher.value
        else:
            yield from _examples(matcher.value)


def _examples(pattern: str) -> Iterator[str]:
    """Texts that a simple pattern may take; whether it does is for the caller to ask."""
    inside = (
        pattern[1:-1] if pattern[:1] == "(" and pattern.find(")") == len(pattern) - 1 else pattern
    )
    previous = ""
    while previous != inside and "(" in inside:
        previous, inside = inside, _GROUP.sub(r"\1", inside)
    for part in inside.split("|"):
        for written, put in _REWRITES:
            part = written.sub(put, part)
        yield part


def _failures(
    good: Mapping[str, str],
    wants: Mapping[str, tuple[Matcher, ...]],
    counts: Mapping[str, tuple[Matcher, ...]],
) -> Iterator[dict[str, str]]:
    """As the good series, but for one label."""
    for name, matchers in wants.items():
        for value in _values(counts.get(name, ()), matchers):
            if not all(matcher.matches(value) for matcher in matchers):
                yield {**good, name: value}


def _refuse_uncounted(
    wants: Mapping[str, tuple[Matcher, ...]], counts: Mapping[str, tuple[Matcher, ...]]
) -> None:
    for name, matchers in counts.items():
        for value in _values(wants.get(name, ()), matchers):
            if not all(matcher.matches(value) for matcher in matchers):
                raise InvalidSelectors(
                    "good", f'good takes {name}="{value}", which total does not count; narrow it'
                )


def _notation(name: str, labels: Mapping[str, str]) -> str:
    inside = ", ".join(f"{label}={_quoted(value)}" for label, value in labels.items() if value)
    return f"{name}{{{inside}}}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
