"""A condition on one label, as Alertmanager writes it: `severity=~"P1|critical"`.

A missing label is the empty string, and a regular expression matches the whole value (RE2).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import re2

Operator = Literal["=", "!=", "=~", "!~"]

_NAME = r'(?P<name>[a-zA-Z_][a-zA-Z0-9_]*|"(?:[^"\\]|\\.)+")'
_VALUE = r'(?P<value>"(?:[^"\\]|\\.)*"|[^"\s,{}=~!][^"\s,{}]*)'
_MATCHER = re.compile(rf"\s*{_NAME}\s*(?P<op>=~|!~|!=|=)\s*{_VALUE}\s*")


class Pattern(Protocol):
    def fullmatch(self, text: str) -> object: ...


class InvalidMatcher(ValueError):
    """`offset` is the character at which the text stops making sense, counted from 0."""

    def __init__(self, text: str, offset: int, why: str) -> None:
        self.text, self.offset, self.why = text, offset, why
        super().__init__(f"matcher {text}: {why}")


@dataclass(frozen=True, slots=True)
class AlertMatcher:
    name: str
    op: Operator
    value: str
    pattern: Pattern | None = field(default=None, compare=False, repr=False)

    def matches(self, labels: Mapping[str, str]) -> bool:
        text = labels.get(self.name, "")
        if self.pattern is None:
            return (text == self.value) == (self.op == "=")
        return (self.pattern.fullmatch(text) is not None) == (self.op == "=~")

    def __str__(self) -> str:
        return f"{self.name}{self.op}{json.dumps(self.value, ensure_ascii=False)}"


def alert_matcher(name: str, op: Operator, value: str) -> AlertMatcher:
    """The matcher of its parts. Raises InvalidMatcher for a value that is no regular expression."""
    text = f"{name}{op}{json.dumps(value, ensure_ascii=False)}"
    pattern = _compiled(value, text, len(name) + len(op)) if op in ("=~", "!~") else None
    return AlertMatcher(name, op, value, pattern)


def operator_of(is_regex: bool, is_equal: bool) -> Operator:
    """As Alertmanager's API writes it."""
    if is_regex:
        return "=~" if is_equal else "!~"
    return "=" if is_equal else "!="


def parse_matcher(text: str) -> AlertMatcher:
    """The matcher that `text` means. Raises InvalidMatcher."""
    match = _MATCHER.fullmatch(text)
    if match is None:
        start = _MATCHER.match(text)
        offset = start.end() if start else 0
        raise InvalidMatcher(text, offset, 'write it as name="value", with =, !=, =~ or !~')
    value, op = _unquoted(match["value"], text, match.start("value")), match["op"]
    pattern = _compiled(value, text, match.start("value")) if op in ("=~", "!~") else None
    name = _unquoted(match["name"], text, match.start("name"))
    return AlertMatcher(name, cast(Operator, op), value, pattern)


def all_match(matchers: Iterable[AlertMatcher], labels: Mapping[str, str]) -> bool:
    return all(matcher.matches(labels) for matcher in matchers)


def _unquoted(word: str, text: str, offset: int) -> str:
    if not word.startswith('"'):
        return word
    inner = re.sub(r"\\(.)", _unescape, word[1:-1], flags=re.DOTALL)
    if "\0" in inner:
        raise InvalidMatcher(text, offset, r"only \\, \" and \n may stand after a backslash")
    return inner


def _unescape(match: re.Match[str]) -> str:
    return {"\\": "\\", '"': '"', "n": "\n"}.get(match[1], "\0")


def _compiled(value: str, text: str, offset: int) -> Pattern:
    options = re2.Options()
    options.log_errors = False
    try:
        return cast(Pattern, re2.compile(value, options))
    except re2.error as error:
        why = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise InvalidMatcher(text, offset, f"not a regular expression: {why}") from None
