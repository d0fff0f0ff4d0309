"""The data directory: made if it is not there, closed to others, held by one agent at a time."""

import fcntl
import logging
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from tocsin_alerting.box.ports import user_name

log = logging.getLogger(__name__)

PRIVATE = 0o077  # the umask of all that we write: who is paged by whom is nobody else's business
_FLOCK = re.compile(
    r"\d+: FLOCK .*? (?P<pid>-?\d{1,10})"
    r" (?P<major>[0-9a-f]{2,8}):(?P<minor>[0-9a-f]{2,8}):(?P<inode>\d{1,20}) \S+ \S+\s*"
)
_OURS = re.compile(r"incidents\.db\S*|samples|worker\S*|agent\.sock")
_AGENT = re.compile(r"\btocsin\b.*\sup\b|tocsin_alerting")


class InUse(OSError):
    """Another process holds the directory; `pid` is 0 where nobody can tell whose."""

    def __init__(self, path: Path, pid: int) -> None:
        self.pid = pid
        super().__init__(_whose(path, pid))


class NotTrusted(OSError):
    """The path leads where somebody else wants it to."""

    def __init__(self, path: Path, user: str) -> None:
        super().__init__(
            f"{path} is a symbolic link that belongs to {user}, who could lead it elsewhere:"
            " name the directory itself with --storage.path, or remove the link"
        )


def hold(path: Path) -> int:
    """Make the directory and hold it until the process ends, however it ends.

    The lock lies on the directory itself, so that a full disk has room for it. The descriptor is
    not inherited by children. Raises InUse, NotTrusted, and OSError for what cannot be made or
    read.
    """
    _check_link(path)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        place = os.fstat(descriptor)
        _lock(path, descriptor, place)
        close_to_others(path, place)
    except BaseException:  # why: left open, it would keep ourselves out at the next try
        os.close(descriptor)
        raise
    return descriptor


def _lock(path: Path, descriptor: int, place: os.stat_result) -> None:
    """Raises InUse, and OSError where the disk has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = holder(place)
        if described(pid) is None:  # it has ended, and a child of it has the descriptor still
            pid = next((one for one in _openers(place) if one != os.getpid()), 0)
        raise InUse(path, pid) from None


class Held:
    """The directory at `path` is held, and one that takes its place before anything is begun in it:
    it may be another agent's by then. Both raise as `hold`, and may be called by any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._taking = threading.RLock()

    def take(self) -> None:
        with self._taking:
            before, self._descriptor = self._descriptor, hold(self.path)
        if before is not None:
            os.close(before)

    def keep(self) -> None:
        with self._taking:
            if self._descriptor is None or not self._is_there(self._descriptor):
                self.take()

    def _is_there(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False


def _openers(place: os.stat_result) -> Iterator[int]:
    """The processes that have it open, as far as we may look at them."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/[0-9]*"):
        try:
            found = descriptor.stat()
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (place.st_dev, place.st_ino):
            yield int(descriptor.parts[2])


def close_to_others(path: Path, found: os.stat_result) -> None:
    """Takes from others what an earlier version, or a looser umask, left open. A directory of
    somebody else, or with files that are not ours, keeps its mode: only what is ours is closed."""
    entries = list(_entries(path))
    if found.st_mode & PRIVATE and found.st_uid == os.geteuid():
        if all(_OURS.fullmatch(one.name) for one in entries):
            _close_directory(path, found)
        else:
            log.warning(
                "%s is open to others (mode %o) and holds files that are not ours, so it stays so;"
                " a directory of its own (--storage.path) would be closed",
                path,
                _mode(found),
            )
    for one in entries:
        if _OURS.fullmatch(one.name):
            _close(one)
            for inner in _entries(one):
                _close(inner)


def _close_directory(path: Path, found: os.stat_result) -> None:
    try:
        os.chmod(path, 0o700)
    except OSError as error:
        why = error.strerror
        log.warning("%s is open to others (mode %o) and stays so: %s", path, _mode(found), why)
    else:
        log.warning("%s was open to others (mode %o) and is 0700 now", path, _mode(found))


def _entries(path: Path) -> Iterator[Path]:
    try:
        yield from path.iterdir()
    except OSError:
        return  # no directory, or one that we cannot read: whoever needs it will say so


def _close(path: Path) -> None:
    """Links are left alone: what they lead to may be anybody's."""
    try:
        found = path.lstat()
        plain = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        if plain and found.st_mode & PRIVATE and found.st_uid == os.geteuid():
            os.chmod(path, _mode(found) & ~PRIVATE)
    except OSError:
        return


def _mode(found: os.stat_result) -> int:
    return stat.S_IMODE(found.st_mode)


def _check_link(path: Path) -> None:
    """Raises NotTrusted."""
    try:
        found = path.lstat()
    except OSError:
        return
    if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
        raise NotTrusted(path, user_name(found.st_uid))


def _whose(path: Path, pid: int) -> str:
    """Who holds it, as far as we can see, and what to do."""
    who = described(pid)
    if not who:
        return (
            f"{path} is locked by a process that cannot be seen from here (another user's, or of"
            " another container): end it, or choose another directory with --storage.path"
        )
    command, text = who
    if _AGENT.search(command):
        return (
            f"{path} is in use by a running agent ({text}); end it, or choose another"
            " with --storage.path"
        )
    return (
        f"{path} is locked by a process that is no agent ({text}): end it, or choose another"
        " directory with --storage.path"
    )


def described(pid: int) -> tuple[str, str] | None:
    """The command line of a process, and `pid 4711, user li: flock /data sleep 9`."""
    if pid <= 0:
        return None
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline()) or process.name()
        user = user_name(process.uids().effective)
    except psutil.NoSuchProcess:
        return None
    except (psutil.Error, OSError):
        return "", f"pid {pid}"
    shown = "".join(char if char.isprintable() else "?" for char in command[:120])
    return command, f"pid {pid}, user {user}: {shown}"


def holder(place: os.stat_result, locks: Path = Path("/proc/locks")) -> int:
    """The process in `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF` (proc(5)); 0: nobody knows.

    A file system may give another device there than to stat(2): then the inode must do.
    """
    try:
        lines = locks.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return 0
    found = [match for match in map(_FLOCK.fullmatch, lines) if match]
    same = [one for one in found if int(one["inode"]) == place.st_ino]
    device = (os.major(place.st_dev), os.minor(place.st_dev))
    exact = [one for one in same if (int(one["major"], 16), int(one["minor"], 16)) == device]
    pids = {int(one["pid"]) for one in exact or same}
    return max(pids) if len(pids) == 1 else 0
