"""The data directory: made if it is not there, closed to others, held by one agent at a time."""

import fcntl
import logging
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from tocsin_alerting.local.ports import user_name

log = logging.getLogger(__name__)

PRIVATE_MASK = (
    0o077  # the umask of all that we write: who is paged by whom is nobody else's business
)
_FLOCK = re.compile(
    r"\d+: FLOCK .*? (?P<pid>-?\d{1,10})"
    r" (?P<major>[0-9a-f]{2,8}):(?P<minor>[0-9a-f]{2,8}):(?P<inode>\d{1,20}) \S+ \S+\s*"
)
_OWN_FILES = re.compile(r"incidents\.db\S*|samples|worker\S*|agent\.sock|rule-copies|config-copy")
_AGENT = re.compile(r"\btocsin\b.*\sup\b|tocsin_alerting")


class DirectoryInUse(OSError):
    """Another process holds the directory; `pid` is 0 where nobody can tell whose."""

    def __init__(self, path: Path, pid: int) -> None:
        self.pid = pid
        super().__init__(_describe_holder(path, pid))


class UntrustedPath(OSError):
    """The path leads where somebody else wants it to."""

    def __init__(self, path: Path, user: str) -> None:
        super().__init__(
            f"{path} is a symbolic link that belongs to {user}, who could lead it elsewhere:"
            " name the directory itself with --storage.path, or remove the link"
        )


def lock_directory(path: Path) -> int:
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
        pid = lock_holder(place)
        if process_text(pid) is None:  # it has ended, and a child of it has the descriptor still
            pid = next((opener for opener in _openers(place) if opener != os.getpid()), 0)
        raise DirectoryInUse(path, pid) from None


class DataLock:
    """The directory at `path` is held, and one that takes its place before anything is begun in it:
    it may be another agent's by then. Both raise as `hold`, and may be called by any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._acquiring = threading.RLock()

    def acquire(self) -> None:
        with self._acquiring:
            before, self._descriptor = self._descriptor, lock_directory(self.path)
        if before is not None:
            os.close(before)

    def keep(self) -> None:
        with self._acquiring:
            if self._descriptor is None or not self._is_there(self._descriptor):
                self.acquire()

    def _is_there(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False


def _openers(place: os.stat_result) -> Iterator[int]:
    """The processes that have it open, as far as we may look at them."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/[0-9]*"):
        try:
            status = descriptor.stat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == (place.st_dev, place.st_ino):
            yield int(descriptor.parts[2])


def close_to_others(path: Path, status: os.stat_result) -> None:
    """Takes from others what an earlier version, or a looser umask, left open. A directory of
    somebody else, or with files that are not ours, keeps its mode: only what is ours is closed."""
    entries = list(_entries(path))
    if status.st_mode & PRIVATE_MASK and status.st_uid == os.geteuid():
        if all(_OWN_FILES.fullmatch(entry.name) for entry in entries):
            _close_directory(path, status)
        else:
            log.warning(
                "data directory is open to other users: %s (mode %o); it has files of others and"
                " keeps its mode; give the agent a directory of its own (--storage.path)",
                path,
                _mode(status),
            )
    for entry in entries:
        if _OWN_FILES.fullmatch(entry.name):
            _close(entry)
            for inner in _entries(entry):
                _close(inner)


def _close_directory(path: Path, status: os.stat_result) -> None:
    try:
        os.chmod(path, 0o700)
    except OSError as error:
        why = error.strerror
        log.warning(
            "data directory is open to other users: %s (mode %o): %s", path, _mode(status), why
        )
    else:
        log.warning(
            "data directory was open to other users: %s (mode %o); changed to 0700",
            path,
            _mode(status),
        )


def _entries(path: Path) -> Iterator[Path]:
    try:
        yield from path.iterdir()
    except OSError:
        return  # no directory, or one that we cannot read: whoever needs it will say so


def _close(path: Path) -> None:
    """Links are left alone: what they lead to may be anybody's."""
    try:
        status = path.lstat()
        plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        if plain and status.st_mode & PRIVATE_MASK and status.st_uid == os.geteuid():
            os.chmod(path, _mode(status) & ~PRIVATE_MASK)
    except OSError:
        return


def _mode(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode)


def _check_link(path: Path) -> None:
    """Raises NotTrusted."""
    try:
        status = path.lstat()
    except OSError:
        return
    if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
        raise UntrustedPath(path, user_name(status.st_uid))


def _describe_holder(path: Path, pid: int) -> str:
    """Who holds it, as far as we can see, and what to do."""
    who = process_text(pid)
    if not who:
        return (
            f"{path} is locked by a process that is not visible from here (of another user or"
            " container): stop it, or choose another directory with --storage.path"
        )
    command, text = who
    if _AGENT.search(command):
        return (
            f"{path} is in use by a running agent ({text}); stop it, or choose another"
            " with --storage.path"
        )
    return (
        f"{path} is locked by a process that is not an agent ({text}): stop it, or choose another"
        " directory with --storage.path"
    )


def process_text(pid: int) -> tuple[str, str] | None:
    """The command line of a process, and `pid 4711, user li: flock /data sleep 9`."""
    if pid <= 0:
        return None
    import psutil

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


def lock_holder(place: os.stat_result, locks: Path = Path("/proc/locks")) -> int:
    """The process in `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF` (proc(5)); 0: nobody knows.

    A file system may give another device there than to stat(2): then the inode must do.
    """
    try:
        lines = locks.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return 0
    locks_held = [match for match in map(_FLOCK.fullmatch, lines) if match]
    same = [lock for lock in locks_held if int(lock["inode"]) == place.st_ino]
    device = (os.major(place.st_dev), os.minor(place.st_dev))
    exact = [lock for lock in same if (int(lock["major"], 16), int(lock["minor"], 16)) == device]
    pids = {int(lock["pid"]) for lock in exact or same}
    return max(pids) if len(pids) == 1 else 0
