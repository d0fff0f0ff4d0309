"""Two agents on one data directory would undo each other's incidents."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from support.small_disk import small_disk
from tocsin_alerting.local.data_lock import (
    DataLock,
    DirectoryInUse,
    UntrustedPath,
    lock_directory,
    lock_holder,
)

HOLD = """
import sys, time
from pathlib import Path
from tocsin_alerting.local.data_lock import lock_directory
lock_directory(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_it_is_made_and_held_until_the_process_ends(tmp_path: Path) -> None:
    data = tmp_path / "a" / "data"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(data)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        words = rf"data is in use by a running agent \(pid {other.pid}, user \S+: "
        with pytest.raises(DirectoryInUse, match=words):
            lock_directory(data)
        other.kill()
    os.close(lock_directory(data))


def test_a_place_where_nothing_can_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        lock_directory(tmp_path / "file" / "data")


def found(inode: int, device: int = os.makedev(0xFE, 1)) -> os.stat_result:
    return os.stat_result((0o40700, inode, device, 1, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "odd",
    ["", "FLOCK", "1: FLOCK", "1: FLOCK  ADVISORY  WRITE x 0:1:7 0 EOF", "\u2028"]
    + ["7: -> FLOCK  ADVISORY  WRITE 99 fe:01:1234 0 EOF"]
    + ["9: POSIX  ADVISORY  WRITE 98 fe:01:1234 0 EOF"],
)
def test_an_odd_line_of_the_locks_hides_no_other(tmp_path: Path, odd: str) -> None:
    locks = tmp_path / "locks"
    locks.write_text(f"{odd}\n2: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF\n")
    assert lock_holder(found(1234), locks) == 4711
    assert lock_holder(found(123), locks) == 0


def test_the_same_number_on_another_disk_is_another_directory(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    line = "1: FLOCK  ADVISORY  WRITE {} {}:1234 0 EOF\n"
    locks.write_text(line.format(1, "fe:02") + line.format(2, "fe:01"))
    assert lock_holder(found(1234), locks) == 2
    assert lock_holder(found(1234, os.makedev(9, 9)), locks) == 0  # either of them
    locks.write_text(line.format(1, "fe:02"))
    assert lock_holder(found(1234), locks) == 1  # as on btrfs
    locks.write_text(line.format(-1, "fe:01"))
    assert lock_holder(found(1234), locks) == -1  # of another container


STRANGER = """
import fcntl, os, sys, time
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
first = os.getpid()
if sys.argv[2:] and os.fork():
    os._exit(0)  # the lock lives on in the child
while sys.argv[2:] and os.getppid() == first:
    time.sleep(0.001)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("inherited", [[], ["by a child"]])
def test_a_stranger_who_holds_it_is_not_taken_for_an_agent(
    tmp_path: Path, inherited: list[str]
) -> None:
    command = [sys.executable, "-c", STRANGER, str(tmp_path), *inherited]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        pid = int(other.stdout.readline())
        words = rf"is locked by a process that is not an agent \(pid {pid}, user \S+: "
        with pytest.raises(DirectoryInUse, match=words):
            lock_directory(tmp_path)
        stranger = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([stranger], timeout=10)
    os.close(lock_directory(tmp_path))


def test_a_holder_who_cannot_be_seen_is_said_so(tmp_path: Path) -> None:
    assert "is not visible from here" in str(DirectoryInUse(tmp_path, 0))
    assert "is not visible from here" in str(DirectoryInUse(tmp_path, -1))


def modes(path: Path) -> dict[str, int]:
    every = [path, *path.rglob("*")]
    return {str(one.relative_to(path)): stat.S_IMODE(one.lstat().st_mode) for one in every}


def old_data(path: Path) -> None:
    """As an earlier version left it."""
    (path / "samples").mkdir(parents=True)
    for name in ("incidents.db", "incidents.db-wal", "samples/0000000001.seg"):
        (path / name).write_text("x")
        (path / name).chmod(0o644)
    for one in (path, path / "samples"):
        one.chmod(0o755)


def test_it_is_closed_to_others_and_so_is_what_was_left_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old_data(old)
    for path in (new, old, old):
        os.close(lock_directory(path))
    assert modes(new) == {".": 0o700}
    assert set(modes(old).values()) == {0o700, 0o600}
    assert [one.getMessage() for one in caplog.records] == [
        f"data directory was open to other users: {old} (mode 755); changed to 0700"
    ]


def test_a_directory_with_the_files_of_others_keeps_its_mode_and_ours_are_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old_data(tmp_path)
    elsewhere = tmp_path / "a letter"
    elsewhere.write_text("to everybody")
    elsewhere.chmod(0o644)
    tmp_path.chmod(0o755)
    (tmp_path / "samples" / "0000000002.seg").symlink_to(elsewhere)
    os.close(lock_directory(tmp_path))
    found = modes(tmp_path)
    assert (found["."], found["a letter"]) == (0o755, 0o644)
    assert (found["incidents.db"], found["samples"]) == (0o600, 0o700)
    assert "(mode 755); it has files of others" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_link_that_somebody_else_laid_is_refused(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    os.close(lock_directory(link))
    os.lchown(link, 65534, 65534)
    with pytest.raises(UntrustedPath, match="is a symbolic link that belongs to nobody"):
        lock_directory(link)


def test_one_that_stays_open_to_others_is_held_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its lock was not taken where its mode could not be changed, and a second agent ran."""
    with small_disk(tmp_path / "disk") as disk:
        disk.path.chmod(0o755)
        subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
        held = lock_directory(disk.path)
        with pytest.raises(DirectoryInUse):
            lock_directory(disk.path)
        os.close(held)
    assert "(mode 755): Read-only file system" in caplog.text


def test_threads_that_take_it_anew_do_not_keep_each_other_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    held = DataLock(data)
    held.acquire()
    for _ in range(20):
        data.rmdir()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: held.keep(), range(8)))
        with pytest.raises(DirectoryInUse):
            lock_directory(data)


def test_an_entry_that_cannot_be_looked_at_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to("x" * 300)  # no file system has such a name
    for _ in range(2):
        held = lock_directory(tmp_path)
        with pytest.raises(DirectoryInUse):
            lock_directory(tmp_path)
        os.close(held)


@pytest.mark.parametrize(
    ("module", "call", "error"),
    [(fcntl, "flock", OSError(errno.ENOLCK, "No locks")), (os, "geteuid", MemoryError())],
    ids=["no lock", "after it"],
)
def test_what_fails_halfway_is_tried_again_and_does_not_keep_ourselves_out(
    tmp_path: Path, module: ModuleType, call: str, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    tmp_path.chmod(0o755)
    held, before = DataLock(tmp_path), os.listdir("/proc/self/fd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, call, fails)
        for _ in range(3):
            with pytest.raises(type(error)):
                held.keep()
    assert os.listdir("/proc/self/fd") == before
    held.keep()
    with pytest.raises(DirectoryInUse):
        lock_directory(tmp_path)


def test_a_directory_that_was_moved_away_is_let_go_of(tmp_path: Path) -> None:
    data, moved = tmp_path / "data", tmp_path / "moved"
    lock = DataLock(data)
    lock.acquire()
    data.rename(moved)
    lock.keep()
    os.close(lock_directory(moved))
    with pytest.raises(DirectoryInUse):
        lock_directory(data)
