"""Values of an `incident_test` block: times, windows of time, labels, and names that others
give."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tocsin_alerting.incident_test.script import NameUsed, TimeWindow
from tocsin_alerting.rules.rule import FilePosition
from tocsin_alerting.rules.yaml_reader import YamlReader
from tocsin_alerting.time_format import parse_duration
from tocsin_alerting.yaml_document import Path, Problem, did_you_mean

_TO = ".."


class ValueReader:
    """`names` are those that the configuration must have; `subset` is the test's `match`."""

    def __init__(self, reading: YamlReader, *, subset: bool) -> None:
        self.reading = reading
        self.subset = subset
        self.names: list[NameUsed] = []

    def value(self, path: Path) -> Any:
        value = self.reading.document.data
        for step in path:
            value = value.get(step) if isinstance(value, dict) else _item(value, step)
        return value

    def has(self, path: Path) -> bool:
        parent = self.value(path[:-1])
        return isinstance(parent, dict) and path[-1] in parent

    def place(self, path: Path) -> FilePosition:
        document = self.reading.document
        return FilePosition(document.file, *document.position(path))

    def kind_of(self, path: Path, kinds: Mapping[str, Collection[str]], what: str) -> str | None:
        """The one key of `kinds` at `path`; beside it only those that belong to it, and `at`."""
        value = self.value(path)
        named = [key for key in value if key in kinds] if isinstance(value, dict) else []
        beside = kinds[named[0]] if named else ()
        known = ("at", *named[:1], *beside) if named else ("at", *kinds)
        self.reading.mapping(path, value, known, what if not named else f"{named[0]}")
        if not named and isinstance(value, dict) and set(value) <= {"at"}:
            self.reading.wrong(path, f"{what} must say one of {', '.join(kinds)}")
        return named[0] if named else None

    def time(self, path: Path) -> int:
        """A time that must be there."""
        if not self.has(path):
            self.reading.wrong(path[:-1], f'"{path[-1]}" is missing; write a time like 5m')
            return 0
        return self.reading.duration(path) or 0

    def window(self, path: Path) -> TimeWindow:
        """`5m..5m15s`, or `5m` for that moment."""
        text = self.reading.text(path)
        first, to, last = text.partition(_TO)
        if not self.has(path) or not to:
            at_ms = self.time(path)
            return TimeWindow(at_ms, at_ms)
        first_ms = self._part(path, first, 0)
        last_ms = self._part(path, last, len(first) + len(_TO))
        if last_ms < first_ms:
            self.reading.wrong(path, f'"{path[-1]}": {text} ends before it begins')
        return TimeWindow(first_ms, last_ms)

    def _part(self, path: Path, text: str, offset: int) -> int:
        trimmed = text.strip()
        try:
            return 0 if trimmed == "0" else parse_duration(trimmed)
        except ValueError as error:
            why = f'"{path[-1]}": {error}; write it like 5m..5m15s'
            self.reading.wrong_at(path, offset, why)
            return 0

    def end(self, path: Path, at_ms: int, *, needed: bool = True) -> int | None:
        """When it is over: `for` so long, or `until` a time of the test."""
        lasts, until = (*path, "for"), (*path, "until")
        if self.has(lasts) and self.has(until):
            self.reading.wrong(until, "say for or until, not both", key=True)
        if self.has(lasts):
            return at_ms + (self.reading.duration(lasts) or 0)
        if self.has(until):
            ends_ms = self.reading.duration(until)
            if ends_ms is not None and ends_ms <= at_ms:
                self.reading.wrong(until, '"until" is a time of the test, and must be after "at"')
            return ends_ms
        if needed:
            self.reading.wrong(path, 'it must end: add "for" or "until"')
        return None

    def labels(self, path: Path) -> dict[str, str]:
        """By which an incident is found; at least one."""
        found = self.reading.texts(path, "labels")
        if not found and self.value(path) in (None, {}):
            why = f'"{path[-1]}" must say which incident, by labels like {{alertname: EngineDown}}'
            self.reading.wrong(path, why)
        return found

    def count(self, path: Path) -> int | None:
        if not self.has(path):
            return None
        number = self.reading.whole(path)
        if number < 0:
            self.reading.wrong(path, f'"{path[-1]}" must not be negative')
        return number

    def name(self, kind: str, path: Path) -> str | None:
        """A name that the configuration must have."""
        if not self.has(path):
            return None
        name = self.reading.text(path)
        self.names.append(NameUsed(kind, name, self.place(path)))
        return name

    def wrong_place(self, place: FilePosition, why: str) -> None:
        self.reading.problems.append(Problem(place.file, place.line, place.column, why))

    def wrong_near(self, place: FilePosition, why: str, word: str, known: Iterable[str]) -> None:
        self.wrong_place(place, why + did_you_mean(word, known))


def _item(value: Any, step: str | int) -> Any:
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def written(value: Any) -> str:
    """A value in one line, nearly as it stands in the file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "{}" if value is None else str(value)
