"""One source of log lines on a thread of its own: what hangs or floods there costs nobody else."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tocsin_exporter.state_file import StateFile
from tocsin_exporter.tailing.budget import LineBudget
from tocsin_exporter.tailing.counts import LogCounts, counts_of
from tocsin_exporter.tailing.file_reader import FileReader
from tocsin_exporter.tailing.journal_reader import JournalReader
from tocsin_exporter.tailing.line_patterns import LinePatterns, Match
from tocsin_exporter.tailing.privacy import holds_prompt
from tocsin_exporter.tailing.reader import Batch, LogReader
from tocsin_exporter.tailing.settings import LogSource

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
SAVE_SECONDS = 1.0
NOT_READ = "not read yet"
_AGAIN_SECONDS = 5.0
_KEPT_A_PATTERN = 5
_KEPT_BYTES = 2 << 10


@dataclass(frozen=True, slots=True)
class LogState:
    """What the metrics say of a source: `counts` are those of the last time it was saved, so that
    a restart never takes them back."""

    counts: LogCounts
    behind: int
    files: int
    up: bool = False
    saved: bool = False
    trouble: str = ""


class LogTailer:
    """`now` gives Unix seconds, `monotonic` others. `begin` starts the thread, `close` ends it
    without waiting."""

    def __init__(
        self,
        source: LogSource,
        directory: Path | None,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.source = source
        self.matcher = LinePatterns(source)
        self._now, self._monotonic = now, monotonic
        self._file = StateFile(directory and directory / f"{source.name}.json")
        self._counts = LogCounts()
        self._recent: dict[str, deque[tuple[float, bytes]]] = {
            name: deque(maxlen=_KEPT_A_PATTERN) for name in self.matcher.names
        }
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._saved_at = monotonic()
        self.state = LogState(LogCounts(), 0, 0, trouble=NOT_READ)

    def begin(self, after: "LogTailer | None" = None) -> None:
        """After the thread of `after`, which had the same name, has ended. Raises RuntimeError
        where there is no room for a thread."""
        if self._thread is None or not self._thread.is_alive() and not self._stop.is_set():
            name = f"log {self.source.name}"
            thread = threading.Thread(target=self._run, args=(after,), name=name, daemon=True)
            thread.start()
            self._thread = thread

    def close(self) -> None:
        self._stop.set()

    def join(self, seconds: float | None = None) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def recent(self) -> Iterator[tuple[float, str, str, bytes]]:
        """The last lines of each pattern as they were written: when, source, pattern and line."""
        for name, kept in self._recent.items():
            for at, line in list(kept):
                yield at, self.source.name, name, line

    def _run(self, after: "LogTailer | None") -> None:
        if after is not None:
            after.join()
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception:  # why: nobody else reads this log, so no fault may end its thread
                log.exception("reading of log source %s failed", self.source.name)
                self._stop.wait(_AGAIN_SECONDS)

    def _follow(self) -> None:
        reader = self._resumed()
        budget = LineBudget(self.source.limits, self._monotonic)
        try:
            while not self._stop.is_set():
                self.round(reader, budget)
                self._stop.wait(POLL_SECONDS)
            self.save(reader)
        finally:
            reader.close()

    def _resumed(self) -> LogReader:
        saved = self._file.read()
        position: Any = saved.get("position") if saved.get("kind") == self._kind else None
        try:
            self._counts = counts_of(saved["counts"]) if saved else LogCounts()
        except (ValueError, LookupError, TypeError, AttributeError):
            log.warning("counts of log source %s lost: not readable", self.source.name)
            self._counts = LogCounts()
        for name in self.matcher.names:
            self._counts.matches.setdefault(name, {})
        about = (self.source, position, self._counts.files, self._monotonic)
        return JournalReader(*about) if self.source.journal else FileReader(*about)

    @property
    def _kind(self) -> str:
        return "journal" if self.source.journal else "files"

    def round(self, reader: LogReader, budget: LineBudget) -> None:
        """Read what there is, within the budget."""
        budget.refill()
        while not budget.spent:
            batch = reader.read(budget)
            if not batch.lines:
                break
            self._take(batch)
        reader.settle()
        if self._monotonic() - self._saved_at >= SAVE_SECONDS or self.state.trouble:
            self.save(reader)

    def save(self, reader: LogReader) -> None:
        """Positions and counts; then others may see the counts."""
        self._saved_at = self._monotonic()
        counts = self._counts.as_json()
        saved = self._file.write(
            {"kind": self._kind, "position": reader.position(), "counts": counts}
        )
        trouble = reader.trouble
        if trouble and trouble != self.state.trouble:
            log.warning("log source %s cannot be read: %s", self.source.name, trouble)
        about = (reader.behind, reader.files, not trouble, saved, trouble)
        self.state = LogState(counts_of(counts), *about)

    def _take(self, batch: Batch) -> None:
        counts, level_of, matches = self._counts, self.matcher.level_of, self.matcher.matches
        levels: Sequence[str] = batch.levels or ("",) * len(batch.lines)
        for line, known in zip(batch.lines, levels, strict=True):
            level = known or level_of(line)
            counts.levels[level] += 1
            counts.bytes += len(line)
            if matched := matches(line):
                self._found(line, matched)

    def _found(self, line: bytes, matched: Sequence[Match]) -> None:
        if holds_prompt(line):
            self._counts.withheld += 1
            return
        now = self._now()
        for pattern, value in matched:
            self._counts.match(pattern, value, now)
            self._recent[pattern].append((now, line[:_KEPT_BYTES]))
