"""sd_notify(3), on a real socket of the test."""

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tocsin_alerting.local.systemd import SystemdNotifier


@pytest.fixture(params=["path", "abstract"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The socket and what NOTIFY_SOCKET calls it."""
    name = str(tmp_path / "s") if request.param == "path" else f"@tocsin-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(name.replace("@", "\0"))
        bound.settimeout(10)
        yield bound, name


def test_what_is_said_arrives_and_children_inherit_nothing(
    receiver: tuple[socket.socket, str],
) -> None:
    env = {"NOTIFY_SOCKET": receiver[1], "WATCHDOG_USEC": "2500000", "PATH": "/bin"}
    systemd = SystemdNotifier(env)
    systemd.stopping()
    assert receiver[0].recv(1000) == b"STOPPING=1"
    assert env == {"PATH": "/bin"}
    assert systemd.watchdog_seconds == 2.5


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_may_be_meant_for_another(env: dict[str, str], seconds: float) -> None:
    assert SystemdNotifier(dict(env)).watchdog_seconds == seconds


def test_a_reload_is_begun_and_ended(receiver: tuple[socket.socket, str]) -> None:
    systemd = SystemdNotifier({"NOTIFY_SOCKET": receiver[1]})
    systemd.reloading()
    systemd.reloaded()
    begun, ended = receiver[0].recv(1000), receiver[0].recv(1000)
    assert begun.startswith(b"RELOADING=1\nMONOTONIC_USEC=") and ended == b"READY=1"


async def test_ready_once_it_serves_and_then_a_sign_of_life_four_times_a_period(
    receiver: tuple[socket.socket, str],
) -> None:
    serving = False
    systemd = SystemdNotifier({"NOTIFY_SOCKET": receiver[1], "WATCHDOG_USEC": "800000"})
    attending = asyncio.create_task(systemd.keep_alive(lambda: serving, lambda: "fine"))
    await asyncio.sleep(0.2)
    receiver[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver[0].recv(1000)
    serving = True
    await asyncio.sleep(1)
    said = []
    with pytest.raises(BlockingIOError):
        while True:
            said.append(receiver[0].recv(1000))
    attending.cancel()
    assert said[0] == b"READY=1\nSTATUS=fine"
    assert set(said[1:]) == {b"WATCHDOG=1\nSTATUS=fine"}
    assert 3 <= len(said[1:]) <= 5


def test_a_socket_that_takes_nothing_is_not_waited_for(
    receiver: tuple[socket.socket, str],
) -> None:
    systemd = SystemdNotifier({"NOTIFY_SOCKET": receiver[1]})
    for number in range(2000):  # nobody reads: the kernel's queue is full after a few
        systemd.notify(f"STATUS={number}")
    receiver[0].setblocking(False)
    taken = []
    with pytest.raises(BlockingIOError):
        while True:
            taken.append(receiver[0].recv(1000))
    assert taken[0] == b"STATUS=0" and len(taken) < 2000
    systemd.stopping()
    assert receiver[0].recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("env", [{"NOTIFY_SOCKET": "/nowhere/at/all"}, {}])
def test_without_a_systemd_that_hears_nothing_fails(
    env: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tocsin_alerting.local.systemd")
    SystemdNotifier(dict(env)).stopping()
    assert ["systemd notification failed" in one for one in caplog.messages] == [True] * len(env)


async def test_no_sign_of_life_while_a_loop_is_stalled(
    receiver: tuple[socket.socket, str],
) -> None:
    stalled = "the loop of rules has not turned for 130 s"
    systemd = SystemdNotifier({"NOTIFY_SOCKET": receiver[1], "WATCHDOG_USEC": "400000"})
    attending = asyncio.create_task(
        systemd.keep_alive(lambda: True, lambda: "fine", lambda: stalled)
    )
    heard = [await asyncio.to_thread(receiver[0].recv, 1000) for _ in range(3)]
    assert heard == [b"READY=1\nSTATUS=fine", *[f"STATUS={stalled}".encode()] * 2]
    stalled = ""
    while not (last := await asyncio.to_thread(receiver[0].recv, 1000)).startswith(b"WATCHDOG"):
        assert last == heard[-1]
    attending.cancel()
    await asyncio.gather(attending, return_exceptions=True)
