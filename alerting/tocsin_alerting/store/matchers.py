"""What a selector demands of one label: equality, or an anchored RE2 regular expression."""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, cast

import re2


class MatchOp(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


class Regex(Protocol):
    """A compiled pattern of google-re2."""

    def fullmatch(self, text: str) -> object | None: ...


class InvalidRegex(ValueError):
    """A pattern that RE2 refuses, in Prometheus's (that is, Go's) words."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher; a series without the label has the value "".

    Raises InvalidRegex on construction when RE2 refuses the pattern.
    """

    name: str
    op: MatchOp
    value: str
    _regex: Regex | None = field(init=False, compare=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if self.op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
            object.__setattr__(self, "_regex", compile_anchored(self.value))

    def matches(self, value: str) -> bool:
        if self._regex is None:
            return (value == self.value) is (self.op is MatchOp.EQUAL)
        return (self._regex.fullmatch(value) is not None) is (self.op is MatchOp.REGEX)


@lru_cache(maxsize=1024)
def compile_anchored(pattern: str) -> Regex:
    """`pattern` for `fullmatch`, where a dot also matches a line break, as in Prometheus."""
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return cast(Regex, re2.compile(pattern, options))
    except re2.error as refused:
        message = refused.args[0] if refused.args else b""
        raise InvalidRegex(_go_words(message.decode(errors="replace"))) from None
    except UnicodeEncodeError:
        raise InvalidRegex(_go_words(f"invalid UTF-8: {ascii(pattern)}")) from None


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
