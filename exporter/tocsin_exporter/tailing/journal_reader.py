"""Messages of systemd's journal, by `journalctl -f`: its cursor is the position.

The journal has no other interface without a library of its own. The child is only read from; one
that ends is begun again after what it said last.
"""

import glob
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tocsin_exporter.tailing.budget import LineBudget
from tocsin_exporter.tailing.followed_path import FileCounts
from tocsin_exporter.tailing.reader import Batch
from tocsin_exporter.tailing.settings import JournalUnits, LogSource
from tocsin_exporter.tailing.tailed_file import LONGEST_LINE

_FIELDS = "MESSAGE,PRIORITY"
_CHUNK = 64 << 10
_LONGEST_ENTRY = 1 << 20  # of JSON, which writes binary messages as numbers
_AGAIN_SECONDS = 5.0
_NO_PROGRAM = "there is no journalctl on this machine"
_NO_JOURNAL = "there is no journal on this machine (/var/log/journal, /run/log/journal)"
_NO_RIGHT = "not allowed to read the journal; add this user to the group systemd-journal"
_JOURNALS = "/{}/log/journal/*/system.journal"
_LEVELS = ("critical", "critical", "critical", "error", "warning", "info", "", "debug")


def command(wanted: JournalUnits, cursor: str, journalctl: str = "journalctl") -> list[str]:
    """Matches of one field are alternatives; `+` joins those of two."""
    after = [f"--after-cursor={cursor}"] if cursor else ["--lines=0"]
    units = [f"_SYSTEMD_UNIT={unit if '.' in unit else unit + '.service'}" for unit in wanted.units]
    kernel = ["_TRANSPORT=kernel"] if wanted.kernel else []
    matches = [*units, *(["+"] if units and kernel else []), *kernel]
    return [journalctl, "--follow", "--quiet", "--no-pager", "--output=json",
            f"--output-fields={_FIELDS}", *after, *matches]  # fmt: skip


def journal_files() -> list[str]:
    return [path for place in ("var", "run") for path in glob.glob(_JOURNALS.format(place))]


class JournalReader:
    """`find` gives the path of journalctl, None where there is none, `journals` the files of the
    system's journal; `monotonic` gives seconds."""

    def __init__(
        self,
        source: LogSource,
        saved: Any,
        counts: FileCounts,
        monotonic: Callable[[], float],
        find: Callable[[str], str | None] = shutil.which,
        journals: Callable[[], Sequence[str]] = journal_files,
    ) -> None:
        assert source.journal is not None
        self.counts = counts
        self.behind, self.trouble = 0, ""
        self._wanted, self._monotonic = source.journal, monotonic
        self._find, self._journals = find, journals
        self._cursor = saved if isinstance(saved, str) else ""
        self._child: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._skipping = False
        self._again_at = monotonic()

    @property
    def files(self) -> int:
        return int(self._child is not None)

    def read(self, budget: LineBudget) -> Batch:
        """What is above the budget waits in the journal."""
        child = self._child or self._begin()
        data = _ready(child)
        if data == b"" and child is not None:
            self._ended(child)
        if not data:
            return Batch(())
        entries = self._entries(data)
        found = [entry for entry in map(parse, entries) if entry is not None]
        budget.spend(len(entries), len(data))
        if found:
            self._cursor = found[-1][2] or self._cursor
        lines = [line for line, _, _ in found]
        return Batch(lines, [level for _, level, _ in found])

    def settle(self) -> None:
        return

    def position(self) -> Any:
        return self._cursor

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for stream in filter(None, (child.stdout, child.stderr)):
                stream.close()

    def _begin(self) -> subprocess.Popen[bytes] | None:
        if self._monotonic() < self._again_at:
            return None
        self._again_at = self._monotonic() + _AGAIN_SECONDS
        program = self._find("journalctl")
        self.trouble = self._obstacle(program)
        if program is None or self.trouble:
            return None
        arguments = command(self._wanted, self._cursor, program)
        try:
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C"},
            )
        except OSError as error:
            self.trouble = f"journalctl: {error.strerror}"
            return None
        for stream in filter(None, (child.stdout, child.stderr)):
            os.set_blocking(stream.fileno(), False)
        self._child, self._rest = child, b""
        return child

    def _obstacle(self, program: str | None) -> str:
        if program is None:
            return _NO_PROGRAM
        files = self._journals()
        if not files:
            return _NO_JOURNAL
        return "" if any(os.access(file, os.R_OK) for file in files) else _NO_RIGHT

    def _ended(self, child: subprocess.Popen[bytes]) -> None:
        said = child.stderr.read(_CHUNK) if child.stderr else b""
        self.close()
        why = (said or b"").decode("utf-8", "replace").strip().splitlines()
        self.trouble = f"journalctl ended: {why[-1][:200] if why else 'without a word'}"
        if self._cursor and "cursor" in self.trouble:  # of another journal: begin at the end
            self._cursor = ""
            self.counts.losses.add("truncated", 1, 0)

    def _entries(self, data: bytes) -> Sequence[bytes]:
        *entries, rest = (self._rest + data).split(b"\n")
        if self._skipping and entries:
            entries, self._skipping = entries[1:], False
        if len(rest) > _LONGEST_ENTRY:
            self.counts.losses.add("too long", 0 if self._skipping else 1, len(rest))
            rest, self._skipping = b"", True
        self._rest = rest
        return entries


def _ready(child: subprocess.Popen[bytes] | None) -> bytes | None:
    """What it has written; b"" once it has ended, None for nothing now."""
    if child is None or child.stdout is None:
        return None
    try:
        return os.read(child.stdout.fileno(), _CHUNK)
    except BlockingIOError:
        return None


def parse(entry: bytes) -> tuple[bytes, str, str] | None:
    """The message, its level ("" where the text may know better) and its cursor; None for what is
    no entry. A message that is not text comes as a list of its bytes, one that is too long as null.
    """
    try:
        data: Mapping[str, Any] = json.loads(entry)
        said, cursor = data.get("MESSAGE"), str(data["__CURSOR"])
        priority = str(data.get("PRIORITY", "6"))
        message = said.encode("utf-8", "replace") if isinstance(said, str) else bytes(said or b"")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    level = _LEVELS[int(priority)] if priority in "01234567" and priority else ""
    return message.replace(b"\n", b" ")[:LONGEST_LINE], level, cursor
