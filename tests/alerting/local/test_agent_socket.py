"""The Unix socket of the agent: where it lies, who may use it, and how it is found."""

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from tocsin_alerting.local.agent_socket import answers, candidates, listen, socket_path


def test_it_lies_in_the_runtime_directory_else_in_the_data_directory() -> None:
    assert socket_path({}, "data") == Path("data/agent.sock")
    assert socket_path({"RUNTIME_DIRECTORY": "/run/tocsin"}, "data") == Path(
        "/run/tocsin/agent.sock"
    )
    assert socket_path({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "data") == Path("/run/a/agent.sock")


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_user_and_group_may_use_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        listener = listen(tmp_path / "agent.sock")
    finally:
        now = os.umask(before)
    assert listener is not None and now == umask
    about = (tmp_path / "agent.sock").stat()
    assert stat.S_IMODE(about.st_mode) == 0o660
    try:
        group = grp.getgrnam("tocsin").gr_gid
    except KeyError:
        group = os.getegid()
    assert about.st_gid == group
    assert answers(tmp_path / "agent.sock")
    listener.close()
    assert not answers(tmp_path / "agent.sock")


def test_one_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    for _ in range(2):
        listener = listen(path)
        assert listener is not None
        listener.close()
    assert path.is_socket()


@pytest.mark.parametrize("trouble", ["none", "file", "long"])
def test_where_there_can_be_none_the_agent_says_so_and_goes_on(
    tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not ours to remove")
    path = {
        "none": tmp_path / "missing" / "agent.sock",
        "file": tmp_path / "file",
        "long": tmp_path / ("a" * 120),
    }[trouble]
    assert listen(path) is None
    (record,) = caplog.records
    assert "failed to create the Unix socket" in record.getMessage() and vars(record)[
        "path"
    ] == str(path)
    assert (tmp_path / "file").read_text() == "not ours to remove"


def test_the_nearest_agent_comes_first_and_files_that_are_no_socket_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "run", "session/tocsin", "named"):
        (tmp_path / folder).mkdir(parents=True)
    made = [listen(tmp_path / folder / "agent.sock") for folder in ("run", "session/tocsin")]
    (tmp_path / "data" / "agent.sock").write_text("")
    env = {"RUNTIME_DIRECTORY": str(tmp_path / "run"), "XDG_RUNTIME_DIR": str(tmp_path / "session")}
    found = [path for path in candidates(env) if tmp_path in path.parents]
    assert found == [tmp_path / "run/agent.sock", tmp_path / "session/tocsin/agent.sock"]
    made.append(listen(tmp_path / "named" / "agent.sock"))
    named = list(candidates({"TOCSIN_STORAGE_PATH": str(tmp_path / "named")}))
    assert named[0] == tmp_path / "named/agent.sock"
    for listener in made:
        assert isinstance(listener, socket.socket)
        listener.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_socket_of_a_stranger_is_none(tmp_path: Path) -> None:
    listener = listen(tmp_path / "agent.sock")
    assert listener is not None
    env = {"TOCSIN_STORAGE_PATH": str(tmp_path)}
    assert (tmp_path / "agent.sock") in candidates(env)
    os.chown(tmp_path / "agent.sock", 65534, -1)
    assert (tmp_path / "agent.sock") not in candidates(env)
    listener.close()
