"""What a newer version wrote into a row and this one does not know: kept as it is, and said.

A row is read into an object and written from it again. What the row had beside that is laid aside
here, and put back whenever the row is written, so that going back a version loses nothing.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Json = dict[str, Any]
Kind = TypeVar("Kind", bound=StrEnum)
_NESTED = frozenset({dict, list})


def unknown_part(data: Any, known: Any) -> Any:
    """What `data` has and `known` has not: keys of objects, at any depth; None when nothing."""
    if isinstance(data, dict) and isinstance(known, Mapping):
        rest = {name: value for name, value in data.items() if name not in known}
        for name, value in data.items():
            if not _is_plain(value) and name in known:
                inner = unknown_part(value, known[name])
                if inner is not None:
                    rest[name] = inner
        return rest or None
    if isinstance(data, list) and isinstance(known, list | tuple) and len(data) == len(known):
        pairs = zip(data, known, strict=True)
        items = [None if _is_plain(one) else unknown_part(one, other) for one, other in pairs]
        return items if any(one is not None for one in items) else None
    return None


def _is_plain(value: Any) -> bool:
    """Nothing in it has a key: so is most of the tens of thousands of rows that a start reads."""
    kind = value.__class__
    return kind not in _NESTED or (kind is list and _NESTED.isdisjoint(map(type, value)))


def merge_unknown(known: Any, rest: Any) -> Any:
    """`known` with what `without` laid aside; where both have a value, `known` has it."""
    if isinstance(known, Mapping) and isinstance(rest, Mapping):
        merged = {name: merge_unknown(known[name], rest.get(name)) for name in known}
        return {**{name: value for name, value in rest.items() if name not in known}, **merged}
    if isinstance(known, list | tuple) and isinstance(rest, list) and len(known) == len(rest):
        return [merge_unknown(item, other) for item, other in zip(known, rest, strict=True)]
    return known


def known_fields(data: Mapping[str, Any], kind: Any) -> Json:
    """The values of `data` that `kind`, a dataclass, has a field for."""
    return {name: value for name, value in data.items() if name in kind.__dataclass_fields__}


def known_member(kind: type[Kind], value: str, otherwise: Kind) -> Kind:
    """The member of `kind`; `otherwise`, and a line in the log, for a word that is not known."""
    try:
        return kind(value)
    except ValueError:
        text = "the journal has %s %r, not known here: taken as %s"
        log.warning(text, kind.__name__, value, otherwise.value)
        return otherwise


class UnknownFields:
    """By table and key of the row."""

    def __init__(self) -> None:
        self._unknown_parts: dict[tuple[str, object], Any] = {}

    def keep(self, table: str, key: object, data: Any, known: Callable[[], Any]) -> None:
        """`known` gives the row as it would be written again."""
        rest = unknown_part(data, known())
        if rest is not None:
            self._unknown_parts[table, key] = rest

    def put_back(self, table: str, key: object, known: Any) -> Any:
        rest = self._unknown_parts.get((table, key))
        return known if rest is None else merge_unknown(known, rest)

    def log_counts(self) -> None:
        """One line in the log for each table and field."""
        counts: Counter[tuple[str, str]] = Counter()
        for (table, _), rest in self._unknown_parts.items():
            counts.update({(table, name) for name in _names(rest)})
        for (table, name), rows in sorted(counts.items()):
            log.warning(
                "the journal was written by a newer version: %s has %s in %d rows, not known here;"
                " it is kept as it is",
                table,
                name,
                rows,
            )


def _names(rest: Any, at: str = "") -> Iterator[str]:
    if isinstance(rest, Mapping):
        for name, value in rest.items():
            yield from _names(value, f"{at}.{name}" if at else name)
    elif isinstance(rest, list) and any(isinstance(item, Mapping) for item in rest):
        for item in rest:
            yield from _names(item, at)
    elif rest is not None:
        yield at
