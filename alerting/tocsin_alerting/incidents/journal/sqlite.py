"""The journal in one SQLite file: WAL, synchronous=FULL, one thread that reads and writes.

A commit survives SIGKILL and a power cut. The connection is opened when it is first needed and
again after an error, so a disk that comes back is used again.
"""

import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from tocsin_alerting.incidents.changeset import Changeset, HistoryEntry
from tocsin_alerting.incidents.errors import JournalDown, JournalReplaced, SchemaTooNew
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.broken_file import (
    file_ids,
    file_sizes,
    is_broken,
    is_whole,
    moved_files,
    set_aside,
    shortened_files,
    times_set_aside,
)
from tocsin_alerting.incidents.journal.machine_rename import rename_machine
from tocsin_alerting.incidents.journal.protocol import (
    NO_NUMBER,
    IncidentLabels,
    JournalState,
)
from tocsin_alerting.incidents.journal.pruning import Pruned, prune_slice
from tocsin_alerting.incidents.journal.questions import (
    EVERY_INCIDENT,
    OPENING_EVENTS,
    PAGE,
    EntryQuery,
    IncidentFilter,
)
from tocsin_alerting.incidents.journal.questions_sql import entries_where, incidents_where
from tocsin_alerting.incidents.journal.rows import (
    Row,
    delete_gone_instances,
    read_entry,
    read_incidents,
    read_message,
    statements,
)
from tocsin_alerting.incidents.journal.saved_state import (
    OPEN_INCIDENTS,
    saved_state,
    select_incidents,
    select_messages,
)
from tocsin_alerting.incidents.journal.schema import add_missing, migrate
from tocsin_alerting.incidents.journal.serialize import UnknownFields
from tocsin_alerting.incidents.journal.silence_rows import labels_since as read_labels_since
from tocsin_alerting.incidents.openings import NEVER_ENDED
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_exporter.clock import Stamps
from tocsin_exporter.snapshot import MachineName
from tocsin_exporter.threads import Threads, result_of

log = logging.getLogger(__name__)

T = TypeVar("T")
Connect = Callable[[str], sqlite3.Connection]
NEVER_S = float("-inf")
SET_ASIDE_PAUSE_S = 60.0  # between two files that are set aside


class SqliteJournal:
    """`at` is called with the name of each point at which a crash would be interesting.

    What an earlier run kept under another name of the `machine` is moved to the present one.
    `connect` opens the file; the connection is used by one thread, and not by the one that made it.
    A file that is broken is set aside, and JournalReplaced raised: the next call begins a new one.
    So it is with one that was deleted, cut short, or replaced by another: what went into it would
    be lost. `hold` makes sure that the directory is ours before a file is begun in it, or raises.
    `wall` gives Unix seconds; `set_aside_s` is when that was done last, in this run or before it.
    """

    def __init__(
        self,
        path: Path,
        *,
        connect: Connect | None = None,
        machine: MachineName | None = None,
        at: Callable[[str], None] = lambda point: None,
        wall: Callable[[], float] = lambda: 0.0,
        hold: Callable[[], None] = lambda: None,
    ) -> None:
        self.asides = Stamps(wall)
        self._path = path
        self._wall = wall
        self._hold = hold
        self._connect = connect or _connect
        self._at = at
        self._machine = machine
        self._connection: sqlite3.Connection | None = None
        self._file_ids: dict[str, tuple[int, int]] = {}  # of the file that is open
        self._file_sizes: dict[str, int] = {}
        self._thread = Threads(1, "journal")  # a daemon: a disk that hangs holds up no end
        self._unknown = UnknownFields()
        self._replaced = ""

    @property
    def set_aside_s(self) -> float | None:
        return self.asides.newest()

    async def load(self) -> JournalState:
        """As Journal; after it what was replaced takes changesets again."""
        return await self._on_thread(lambda: self._guarded(self._load, anew=True))

    async def commit(self, changeset: Changeset) -> None:
        await self._query(lambda connection: self._commit(connection, changeset))

    async def incident(self, number: int) -> Incident | None:
        incidents = await self._query(
            lambda connection: self._incidents(connection, ("id = ?", (number,)))
        )
        return incidents[0] if incidents else None

    async def incidents(
        self,
        states: Collection[IncidentState],
        limit: int,
        below: int = NO_NUMBER,
        wanted: IncidentFilter = EVERY_INCIDENT,
    ) -> list[Incident]:
        matching: list[Incident] = []
        while len(matching) < limit:  # a page each time: whoever writes does not wait for all
            size = min(PAGE, limit) if wanted else limit
            question = incidents_where(states, below, wanted, size)
            read = await self._query(partial(self._incidents, question=question))
            matching += filter(wanted.matches, read)
            if len(read) < size:
                break
            below = read[-1].number
        return matching[:limit]

    async def entries(self, query: EntryQuery) -> list[HistoryEntry]:
        where, values = entries_where(query)
        sql = f"SELECT seq, ts_ms, incident, event, actor, data_json FROM history {where}"
        read = await self._query(
            lambda connection: [read_entry(row) for row in connection.execute(sql, values)]
        )
        return read[::-1] if query.newest else read

    async def answered_by(self, person: str) -> frozenset[int]:
        sql = "SELECT DISTINCT incident FROM history WHERE actor = ? AND actor <> ''"
        rows = await self._query(lambda connection: connection.execute(sql, (person,)).fetchall())
        return frozenset(number for (number,) in rows)

    async def openings(self, since_ms: int) -> list[tuple[str, int]]:
        marks = ", ".join("?" for _ in OPENING_EVENTS)
        sql = (
            "SELECT incidents.key, history.ts_ms FROM history JOIN incidents"
            f" ON incidents.id = history.incident WHERE ts_ms >= ? AND event IN ({marks})"
            " AND history.data_json NOT LIKE ? ORDER BY seq"
        )
        values = (since_ms, *OPENING_EVENTS, f'%"{NEVER_ENDED}":%')
        rows = await self._query(lambda connection: connection.execute(sql, values).fetchall())
        return [(key, at_ms) for key, at_ms in rows]

    async def history(self, number: int) -> list[HistoryEntry]:
        sql = (
            "SELECT seq, ts_ms, incident, event, actor, data_json FROM history"
            " WHERE incident = ? ORDER BY seq"
        )
        rows = await self._query(lambda connection: connection.execute(sql, (number,)).fetchall())
        return [read_entry(row) for row in rows]

    async def messages(self, number: int) -> list[OutboxMessage]:
        where = "incident = ? ORDER BY id"
        rows = await self._query(lambda connection: select_messages(connection, where, (number,)))
        return [read_message(row, self._unknown) for row in rows]

    async def labels_since(self, since_ms: int, above: int, limit: int) -> list[IncidentLabels]:
        return await self._query(
            lambda connection: read_labels_since(connection, since_ms, above, limit)
        )

    async def prune(self, before_ms: int) -> Pruned:
        return await self._query(lambda connection: prune_slice(connection, before_ms))

    async def close(self) -> None:
        await self._on_thread(self._close)
        self._thread.close()

    # on the writer's thread

    async def _query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._on_thread(lambda: self._guarded(work))

    async def _on_thread(self, work: Callable[[], T]) -> T:
        try:
            return await result_of(self._thread.submit(work))
        except RuntimeError as error:  # its thread cannot be had; the next try may have it
            raise JournalDown(f"{self._path}: {error}") from error

    def _guarded(self, work: Callable[[sqlite3.Connection], T], anew: bool = False) -> T:
        if anew:
            self._replaced = ""
        elif self._replaced:  # whoever writes only what changed would leave the rest out
            raise JournalReplaced(self._replaced)
        if self._connection is not None:
            self._check_place(self._connection)
        try:
            if self._connection is None:
                self._connection = self._open_connection()
                self._file_ids = file_ids(self._path)
                self.asides.remember(times_set_aside(self._path))
            done = work(self._connection)
            self._file_sizes = file_sizes(self._path)
            return done
        except SchemaTooNew:
            self._close()
            raise
        except Exception as error:  # why: also a fault of ours must not silence the pager
            opened = self._connection is not None
            blank = not opened and _is_blank(self._path)
            self._close()
            if is_broken(self._path, error, opened, reading=work == self._load):
                self._set_aside_broken(error)
            raise JournalDown(f"{self._path}: {error}", blank=blank) from error

    def _check_place(self, connection: sqlite3.Connection) -> None:
        """Raises JournalReplaced when the file that is open is not the one at the path."""
        gone = moved_files(self._path, self._file_ids)
        short = [] if gone else shortened_files(self._path, self._file_sizes)
        if short and not self._nothing_lost(short, connection):
            self._abandon_file(f"{_file_names(self._path, short)}: truncated while it was open")
        if gone and "" not in gone and _is_checkpointed(connection):
            log.error(
                "journal file deleted while it was open; reopening, nothing is lost: %s",
                _file_names(self._path, gone),
            )
            self._close()
        elif gone:
            self._abandon_file(
                f"{_file_names(self._path, gone)}: deleted or replaced while it was open"
            )

    def _nothing_lost(self, short: Sequence[str], connection: sqlite3.Connection) -> bool:
        """Whether nothing is lost: it was vacuumed, or all of its WAL written back."""
        try:
            return ("" not in short or is_whole(self._path)) and _is_checkpointed(connection)
        except OSError:
            return False

    def _abandon_file(self, trouble: str) -> None:
        """Begin a new file where ours was; another one that lies there is set aside."""
        try:
            self._hold()
        except Exception as refused:  # why: whatever keeps us out, what lies there is not ours
            self._close()
            self._replaced = f"{trouble}; {refused}"
            raise JournalReplaced(self._replaced) from refused
        lies = bool(file_ids(self._path))
        if lies and 0 <= self._wall() - (self.set_aside_s or NEVER_S) < SET_ASIDE_PAUSE_S:
            raise JournalDown(trouble)
        self._close()
        lies = bool(file_ids(self._path))
        try:
            moved = set_aside(self._path, self._wall()).name if lies else ""
        except OSError as refused:
            raise JournalDown(f"{trouble}; setting aside the file there: {refused}") from refused
        log.error(
            "journal lost, starting a new one: %s%s. Open incidents are written to it; closed"
            " incidents and older history are lost with the old file",
            trouble,
            moved and f"; the file found there is now {moved}",
        )
        self.asides.add()
        self._replaced = trouble
        raise JournalReplaced(trouble)

    def _set_aside_broken(self, error: Exception) -> None:
        """Puts a broken file out of the way and raises JournalReplaced; nothing, if it stays. One
        that breaks again at once stays for a while, or a disk that fails would fill with them."""
        if 0 <= self._wall() - (self.set_aside_s or NEVER_S) < SET_ASIDE_PAUSE_S:
            return
        try:
            aside = set_aside(self._path, self._wall())
        except OSError as refused:
            log.error(
                "journal corrupt, setting it aside failed: %s (%s): %s: move it away by hand",
                self._path,
                error,
                refused,
            )
            return
        self.asides.add()
        log.error(
            "journal corrupt, starting a new one: %s (%s): set aside as %s. Open incidents in"
            " memory are written to the new one; to read the old one: sqlite3 %s .recover",
            self._path,
            error,
            aside.name,
            aside,
        )
        self._replaced = f"{self._path} was corrupt ({error}), set aside as {aside.name}"
        raise JournalReplaced(self._replaced)

    def _open_connection(self) -> sqlite3.Connection:
        """A connection with the schema in place.

        A full disk may have no room for the shared index beside the file: without other readers
        SQLite can do without it.
        """
        self._hold()
        try:
            return self._prepare("NORMAL")
        except sqlite3.OperationalError:
            return self._prepare("EXCLUSIVE")

    def _prepare(self, locking: str) -> sqlite3.Connection:
        connection = self._connect(str(self._path))
        try:
            connection.execute(f"PRAGMA locking_mode = {locking}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            migrate(connection, str(self._path))
            add_missing(connection)
            if self._machine is not None:
                rename_machine(connection, self._machine)
        except BaseException:  # why: an open file must not outlive whatever went wrong
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                return  # it is gone either way

    def _load(self, connection: sqlite3.Connection) -> JournalState:
        return saved_state(connection, self._unknown)

    def _incidents(
        self, connection: sqlite3.Connection, question: tuple[str, Sequence[Any]]
    ) -> list[Incident]:
        return select_incidents(connection, question, self._unknown)

    def _commit(self, connection: sqlite3.Connection, changeset: Changeset) -> None:
        self._at("begin")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for sql, rows in statements(changeset, self._unknown):
                if rows:
                    _insert(connection, sql, rows)
            delete_gone_instances(connection, changeset)
            self._at("before commit")
            connection.execute("COMMIT")
        except BaseException:  # why: whatever happens, nothing half done stays
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._at("after commit")


def open_incidents(path: Path) -> list[Incident]:
    """The incidents that are not closed, without their alerts, read beside an agent that may run.

    The list is empty where there is no journal, or none that this version can read.
    """
    if not path.is_file():
        return []
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            sql = f"SELECT data_json FROM incidents WHERE {OPEN_INCIDENTS} ORDER BY id"
            return read_incidents(connection.execute(sql).fetchall(), (), UnknownFields())
    except (sqlite3.Error, ValueError, KeyError, TypeError):
        return []


def _insert(connection: sqlite3.Connection, sql: str, rows: Sequence[Row]) -> None:
    """A name that is no Unicode, of a file or a machine, must not keep all else off the disk."""
    try:
        connection.executemany(sql, rows)
    except UnicodeEncodeError as error:
        log.warning("journal: text is not valid Unicode, writing ? instead: %s", error)
        connection.executemany(sql, [[_encodable(value) for value in row] for row in rows])


def _encodable(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)


def _is_blank(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _file_names(path: Path, endings: Sequence[str]) -> str:
    return ", ".join(f"{path}{ending}" for ending in endings)


def _is_checkpointed(connection: sqlite3.Connection) -> bool:
    """Whether all of the WAL, which may have no name any more, is in the database now."""
    try:
        busy, pages, done = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    except sqlite3.Error:
        return False
    return not busy and pages == done
