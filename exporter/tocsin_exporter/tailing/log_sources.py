"""All sources of log lines: they come, change and go with the configuration."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tocsin_exporter.catalogue.logs import LOGS
from tocsin_exporter.snapshot import Sample, labels
from tocsin_exporter.tailing.privacy import keepable
from tocsin_exporter.tailing.settings import LogSource
from tocsin_exporter.tailing.tailer import LogState, LogTailer

log = logging.getLogger(__name__)

NAME = "logs"  # of the collector
_CLOSE_SECONDS = 1.0


class MatchedLine(NamedTuple):
    """`at` is Unix seconds; `text` holds no secret and no prompt."""

    at: float
    source: str
    pattern: str
    text: str


Wanted = Callable[[float, str, str], bool]
"""By the time, source and pattern of a line."""


class LogSources:
    """`directory` is where positions are kept, None keeps none. `now` gives Unix seconds,
    `monotonic` others. Nothing here waits for a log."""

    def __init__(
        self,
        directory: Path | None,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._directory, self._now, self._monotonic = directory, now, monotonic
        self._tailers: dict[str, LogTailer] = {}
        self._before: dict[str, LogTailer] = {}

    def configure(self, sources: Sequence[LogSource]) -> None:
        """Read these from now on; one that is as it was goes on. Raises ValueError."""
        known = self._tailers
        wanted = {
            source.name: known[source.name]
            if source.name in known and known[source.name].source == source
            else LogTailer(source, self._directory, self._now, self._monotonic)
            for source in sources
        }
        for name, tailer in known.items():
            if wanted.get(name) is not tailer:
                tailer.close()
                self._before[name] = tailer
        self._tailers = wanted
        self._begin()

    def close(self) -> None:
        """End all, and give them a moment to write where they are."""
        for tailer in self._tailers.values():
            tailer.close()
        for tailer in self._tailers.values():
            tailer.join(_CLOSE_SECONDS)

    def samples(self) -> Iterator[Sample]:
        self._begin()
        for name, tailer in self._tailers.items():
            yield from _samples(name, tailer.state, tailer.matcher.names)

    def recent(self, most: int, wanted: Wanted = lambda *_: True) -> Sequence[MatchedLine]:
        """The last matching lines of all sources, at most so many, the newest first."""
        kept = (line for tailer in self._tailers.values() for line in tailer.recent())
        newest = sorted((line for line in kept if wanted(*line[:3])), reverse=True)[:most]
        return [
            MatchedLine(at, source, pattern, keepable(line.decode("utf-8", "replace")))
            for at, source, pattern, line in newest
        ]

    def _begin(self) -> None:
        for name, tailer in self._tailers.items():
            try:
                tailer.begin(self._before.pop(name, None))
            except RuntimeError as error:  # no room for a thread; tried again at the next reading
                log.warning("failed to read log source %s, retrying: %s", name, error)


def _samples(source: str, state: LogState, patterns: Sequence[str]) -> Iterator[Sample]:
    counts, files = state.counts, state.counts.files
    own = labels(source=source)
    yield Sample(LOGS["tocsin_log_source_up"], float(state.up), own)
    for level, lines in counts.levels.items():
        yield Sample(LOGS["tocsin_log_lines_total"], lines, labels(source=source, level=level))
    for pattern in patterns:
        named = {"source": source, "pattern": pattern}
        for value, matches in (counts.matches.get(pattern) or {"": 0}).items():
            of = labels(**named, value=value)
            yield Sample(LOGS["tocsin_log_matches_total"], matches, of)
        for value, at in counts.last.get(pattern, {}).items():
            last = LOGS["tocsin_log_last_match_timestamp_seconds"]
            yield Sample(last, at, labels(**named, value=value))
    for name, losses in _losses(state).items():
        for reason, number in losses.items():
            yield Sample(LOGS[name], number, labels(source=source, reason=reason))
    for name, number in {
        "tocsin_log_bytes_total": counts.bytes,
        "tocsin_log_withheld_lines_total": counts.withheld,
        "tocsin_log_rotations_total": files.rotations,
        "tocsin_log_truncations_total": files.truncations,
        "tocsin_log_read_lag_bytes": state.behind,
        "tocsin_log_files": state.files,
        "tocsin_log_positions_saved": int(state.saved),
    }.items():
        yield Sample(LOGS[name], number, own)


def _losses(state: LogState) -> Mapping[str, Mapping[str, int]]:
    """Each reason from the start, so that an increase shows the first loss."""
    none, losses = {"behind": 0, "truncated": 0}, state.counts.files.losses
    return {
        "tocsin_log_lost_lines_total": none | losses.lines,
        "tocsin_log_lost_bytes_total": none | losses.bytes,
    }
