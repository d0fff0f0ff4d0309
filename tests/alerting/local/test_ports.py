"""Who listens on a port."""

import os
import re
import socket
from pathlib import Path

import psutil
import pytest

from tocsin_alerting.local.ports import is_free, listening_ports, port_owner


def test_a_taken_port_is_named_with_its_owner() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        assert port_owner(port).endswith(f"(pid {os.getpid()})")
    assert is_free("127.0.0.1", port)


def test_who_listens_is_heard_and_who_does_not_is_not() -> None:
    with socket.socket() as heard, socket.socket() as bound:
        for one in (heard, bound):
            one.bind(("127.0.0.1", 0))
        heard.listen()
        found = listening_ports(re.compile(re.escape(psutil.Process().name())))
        assert heard.getsockname()[1] in found and bound.getsockname()[1] not in found
        assert heard.getsockname()[1] not in listening_ports(re.compile("no such program"))


@pytest.mark.parametrize("said", ["heading\nodd\n", None], ids=["an odd line", "no such file"])
def test_what_the_kernel_does_not_tell_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    if said is not None:
        (tmp_path / "net").mkdir()
        (tmp_path / "net" / "tcp").write_text(said)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert listening_ports(re.compile("")) == []
    assert port_owner(4911) == "another process"


def test_an_address_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(OSError):
        is_free("203.0.113.7", 4911)
