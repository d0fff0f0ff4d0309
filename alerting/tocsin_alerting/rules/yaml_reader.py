"""Reading typed values out of a YAML document, with every problem kept and none in the way."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from tocsin_alerting.promql.parser.signatures import Semantics
from tocsin_alerting.time_format import parse_duration
from tocsin_alerting.yaml_document import (
    MAX_PROBLEMS,
    Document,
    Path,
    Problem,
    did_you_mean,
    is_null,
)

_UNDERSCORED = re.compile(r"[-+]?[0-9][0-9_]{0,30}")


class YamlReader:
    """A document and the problems found in it so far; `where` begins the messages of a part.

    `semantics` says whose PromQL its expressions are. With `ignore_unknown`, a key that is not
    known is no problem.
    """

    def __init__(
        self, document: Document, semantics: Semantics = 3, ignore_unknown: bool = False
    ) -> None:
        self.document = document
        self._ignore_unknown = ignore_unknown
        self.semantics: Semantics = semantics
        self.problems: list[Problem] = []
        self.where = ""
        self._last: tuple[Path, Any] = ((), document.data)

    def wrong(self, path: Path, message: str, *, key: bool = False) -> None:
        self.problems.append(self.document.problem(path, self.where + message, key=key))

    def wrong_at(self, path: Path, offset: int, message: str) -> None:
        """As `wrong`, at a character of the text at `path`."""
        line, column = self.document.text_position(path, offset)
        file = self.document.file
        self.problems.append(Problem(file, line, column, self.where + message))

    def mapping(self, path: Path, value: Any, known: Iterable[str], what: str) -> Mapping[str, Any]:
        """`value` as a mapping with known keys; an empty one where it is something else."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(path, f"{what} must be a mapping, not {kind_name(value)}")
            return {}
        if self._ignore_unknown:
            return value
        names = tuple(known)
        for key in value:
            if key not in names:
                shown = len(self.problems) < MAX_PROBLEMS  # to look for a near one takes long
                near = did_you_mean(key, names) if shown else ""
                hint = near or f"; known are {', '.join(names)}"
                self.wrong((*path, key), f'unknown key "{key}" in {what}{hint}', key=True)
        return value

    def sequence(self, path: Path, value: Any, what: str) -> list[Any]:
        """`value` as a list; an empty one where it is something else."""
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(
                path, f"{what} must be a list, not {kind_name(value)}; begin its items with `- `"
            )
            return []
        return value

    def text(self, path: Path, default: str = "") -> str:
        """The scalar as it is written; a number is text, too."""
        node = self.document.node(path)
        if node is None:
            return default
        if type(node) is yaml.ScalarNode:
            return default if is_null(node) else str(node.value)
        self.wrong(path, f'"{path[-1]}" must be text, not {kind_name(self._value(path)[0])}')
        return default

    def whole(self, path: Path, default: int = 0) -> int:
        """A whole number, which may be written as `1e3`, `5.0` or `1_000`."""
        value, present = self._value(path)
        if not present or value is None:
            return default
        number = _whole(value, self.document.plain(path) or "")
        if number is None:
            written = self.document.text(path) or kind_name(value)
            self.wrong(path, f'"{path[-1]}" must be a whole number, not {written}')
            return default
        return number

    def duration(self, path: Path) -> int | None:
        """Milliseconds; None where there is none or where it is wrong."""
        written = self.text(path)
        if not written and self._value(path)[0] is None:
            return None
        try:
            return 0 if written == "0" else parse_duration(written)
        except ValueError as error:
            self.wrong(path, f'"{path[-1]}": {error}; write it like 90s, 5m or 1h30m')
            return None

    def one_of(self, path: Path, known: Iterable[str], default: str = "") -> str:
        """One of the words that are known."""
        written, words = self.text(path, default), tuple(known)
        if written == default or written in words:
            return written
        same = next((word for word in words if word.lower() == written.lower()), "")
        hint = f'; did you mean "{same}"?' if same else did_you_mean(written, words)
        listed = ", ".join(words)
        self.wrong(path, f'"{path[-1]}" must be one of {listed}, not "{written}"{hint}')
        return default

    def truth(self, path: Path) -> bool:
        value, present = self._value(path)
        if present and not isinstance(value, bool | None):
            self.wrong(path, f'"{path[-1]}" must be true or false, not {kind_name(value)}')
        return value is True

    def texts(self, path: Path, what: str) -> dict[str, str]:
        """A mapping from text to text, such as labels."""
        if (written := self.document.texts(path)) is not None:
            return written
        value, _ = self._value(path)
        return {
            key: self.text((*path, key)) for key in self.mapping(path, value, value or (), what)
        }

    def _value(self, path: Path) -> tuple[Any, bool]:
        """The value at `path`, and whether there is one; the collection above it is kept."""
        if not path:
            return self.document.data, True
        above = path[:-1]
        if above != self._last[0]:
            self._last = above, self._value(above)[0]
        try:
            return self._last[1][path[-1]], True
        except (KeyError, IndexError, TypeError):
            return None, False


def _whole(value: Any, written: str) -> int | None:
    """None for what is none, or has more than 64 bits."""
    if isinstance(value, str) and _UNDERSCORED.fullmatch(written):
        value = int(written.replace("_", ""))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    return None


def kind_name(value: Any) -> str:
    """What a YAML value is, in words."""
    if value is None:
        return "nothing"
    names = {bool: "true or false", dict: "a mapping", list: "a list", str: "text"}
    return names.get(type(value), "a number")
