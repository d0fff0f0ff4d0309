"""What a selector demands of one label: equality, or an anchored RE2 regular expression."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, cast

import re2


class MatchOp(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


class Regex(Protocol):
    """A compiled pattern of google-re2."""

    def fullmatch(self, text: str) -> Any: ...


class InvalidRegex(ValueError):
    """A pattern that RE2 refuses, in Prometheus's (that is, Go's) words."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher; a series without the label has the value "".

    With `old` a pattern means what it meant to Prometheus 2.42. Raises InvalidRegex on construction
    when RE2 refuses the pattern.
    """

    name: str
    op: MatchOp
    value: str
    old: bool = False
    _regex: Regex | None = field(init=False, compare=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if self.op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
            object.__setattr__(self, "_regex", compile_anchored(self.value, self.old))

    def matches(self, value: str) -> bool:
        if self._regex is None:
            return (value == self.value) is (self.op is MatchOp.EQUAL)
        return (self._regex.fullmatch(value) is not None) is (self.op is MatchOp.REGEX)


DeadlineCheck: TypeAlias = Callable[[], object]


def no_deadline() -> None:
    """There is no end to the time that a pattern may take."""


class _MatchResults(dict[str, bool]):
    """What a matcher says of each value: many series share one, and a pattern takes its time."""

    def __init__(self, matcher: Matcher, check_deadline: DeadlineCheck) -> None:
        self._matcher, self._check_deadline = matcher, check_deadline

    def __missing__(self, value: str) -> bool:
        self._check_deadline()
        matches = self[value] = self._matcher.matches(value)
        return matches


class MatchMemo:
    """What matchers say of values, for as long as one selection takes.

    `check_deadline` is called before a pattern meets a value for the first time, and before each
    look at many series; it may raise.
    """

    __slots__ = ("_results", "check_deadline")

    def __init__(self, check_deadline: DeadlineCheck = no_deadline) -> None:
        self.check_deadline = check_deadline
        self._results: dict[Matcher, _MatchResults] = {}

    def predicate(self, matcher: Matcher) -> Callable[[str], bool]:
        """`matcher.matches`, for very many values."""
        if matcher.op is MatchOp.EQUAL:
            return matcher.value.__eq__
        if matcher.op is MatchOp.NOT_EQUAL:
            return matcher.value.__ne__
        results = self._results.get(matcher)
        if results is None:
            results = self._results[matcher] = _MatchResults(matcher, self.check_deadline)
        return results.__getitem__


@lru_cache(maxsize=256)
def compile_anchored(pattern: str, old: bool = False) -> Regex:
    """`pattern` for `fullmatch`, where a dot also matches a line break, as in Prometheus.

    With `old` it does not, as before Prometheus 3. Raises InvalidRegex.
    """
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = not old
    try:
        if old:
            _compiled(f"^(?:{pattern})$", options)  # so its errors come with the anchors
        compiled = _compiled(pattern, options)
    except re2.error as refused:
        message = refused.args[0] if refused.args else b""
        raise InvalidRegex(_go_words(message.decode(errors="replace"))) from None
    except UnicodeEncodeError:
        raise InvalidRegex(_go_words(f"invalid UTF-8: {ascii(pattern)}")) from None
    _refuse_what_go_refuses(pattern, old)
    return compiled


_MAX_MEMORY = (256 << 10, 8 << 20)  # bytes, for the pattern and for what matching it remembers


def _compiled(pattern: str, options: Any) -> Regex:
    """With much memory only where little is too little: thousands of patterns may be kept."""
    little, much = _MAX_MEMORY
    options.max_mem = little
    try:
        return cast(Regex, re2.compile(pattern, options))
    except re2.error as refused:
        if not refused.args or b"too large" not in refused.args[0]:
            raise
    options.max_mem = much
    return cast(Regex, re2.compile(pattern, options))


_QUOTED_OR_CLASS = r"\\Q.*?(?:\\E|$)|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]])*\]"
_NOT_GO = re.compile(rf"{_QUOTED_OR_CLASS}|(?P<byte>\\C)|\\.|\(\?(?P<p>P?)<(?P<name>[^>]*)>", re.S)


def _refuse_what_go_refuses(pattern: str, old: bool) -> None:
    """Refuses what RE2 in C++ takes and Go's does not; the `old` one knows no `(?<name>`."""
    for match in _NOT_GO.finditer(pattern):
        name = match["name"]
        if match["byte"]:
            raise InvalidRegex(_go_words("invalid escape sequence: \\C"))
        if name is not None and old and not match["p"]:
            raise InvalidRegex(_go_words("invalid perl operator: (?<"))
        if name is not None and not re.fullmatch(r"\w+", name, re.ASCII):
            raise InvalidRegex(_go_words(f"invalid named capture: {match[0]}"))


def _go_words(text: str) -> str:
    """RE2's `missing ): (a` as Go's regexp says it: ``missing closing ): `(a` ``."""
    what, _, where = text.partition(": ")
    return f"error parsing regexp: {_GO_WORDS.get(what, what)}: `{where}`"


_GO_WORDS = {
    "bad repetition operator": "invalid nested repetition operator",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid repetition size": "invalid repeat count",
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "trailing \\": "trailing backslash at end of expression",
}
