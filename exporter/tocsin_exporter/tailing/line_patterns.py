"""All patterns of a source at once: one pass of RE2's Set over each line."""

from collections.abc import Sequence
from typing import NamedTuple

import re2

from tocsin_exporter.tailing.levels import LevelOf, compiled, level_of, own_levels
from tocsin_exporter.tailing.privacy import keepable
from tocsin_exporter.tailing.settings import LogSource

VALUE = "value"
_LONGEST_VALUE = 64
_MOST_LOOKED_AT = 400


class Match(NamedTuple):
    """`value` is what the group of that name found, "" without one."""

    pattern: str
    value: str


class LinePatterns:
    """Raises ValueError for an expression that is none."""

    def __init__(self, source: LogSource) -> None:
        self._names = [pattern.name for pattern in source.patterns]
        expressions = [compiled(pattern.regex) for pattern in source.patterns]
        self._valued = {
            number: expression
            for number, expression in enumerate(expressions)
            if VALUE in expression.groupindex
        }
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 64 << 20
        self._set = re2.Set.SearchSet(options)
        for pattern in source.patterns:
            self._set.Add(pattern.regex)
        if self._names:
            self._set.Compile()
        self.level_of: LevelOf = own_levels(source.level) if source.level else level_of

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def matches(self, line: bytes) -> Sequence[Match]:
        found: Sequence[int] | None = self._set.Match(line) if self._names else None
        return [self._match(number, line) for number in found] if found else ()

    def _match(self, number: int, line: bytes) -> Match:
        valued = self._valued.get(number)
        return Match(self._names[number], _value(valued, line) if valued else "")


def _value(expression: "re2._Regexp", line: bytes) -> str:
    match = expression.search(line)
    found = match[VALUE] if match else None
    # A label is on the metrics page, which more may read than the lines.
    text = bytes(found or b"")[:_MOST_LOOKED_AT].decode("utf-8", "replace")
    return keepable(text)[:_LONGEST_VALUE]
