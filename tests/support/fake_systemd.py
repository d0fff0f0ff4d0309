"""A message bus of its own with services that answer as systemd and logind do; node_exporter asks
it too.

Not systemd: that wants to be process 1, or a session with cgroups of its own.
"""

import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
)
from jeepney.io.blocking import open_dbus_connection

_BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_NO_FLAGS = 0
_PATH = "/org/freedesktop/systemd1/unit"
_CONFIG = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>
"""

Variant = tuple[str, object]
Properties = Mapping[str, Mapping[str, Variant]]


class FakeLogind:
    """`sessions` are (seat, remote, type, class)."""

    bus_name = "org.freedesktop.login1"

    def __init__(
        self, seats: Sequence[str], sessions: Sequence[tuple[str, bool, str, str]]
    ) -> None:
        self.seats, self.sessions = seats, sessions

    def answer(self, message: Message) -> Message | None:
        path, member = (message.header.fields[f] for f in (HeaderFields.path, HeaderFields.member))
        if member == "ListSeats":
            seats = [(seat, f"/seat/{number}") for number, seat in enumerate(self.seats)]
            return new_method_return(message, "a(so)", (seats,))
        if member == "ListSessions":
            rows = [(str(n), 1000, "ada", s[0], f"/s/{n}") for n, s in enumerate(self.sessions)]
            return new_method_return(message, "a(susso)", (rows,))
        _seat, remote, kind, of_class = self.sessions[int(path.rpartition("/")[2])]
        known = {"Remote": ("b", remote), "Type": ("s", kind), "Class": ("s", of_class)}
        return new_method_return(message, "v", (known[message.body[1]],))


class FakeSystemd:
    """`units` are (name, loaded, active) with their properties by interface. `silent` units are
    listed, and nothing is answered of them."""

    bus_name = "org.freedesktop.systemd1"

    def __init__(self, units: Mapping[tuple[str, str, str], Properties]) -> None:
        self.units = dict(units)
        self.manager: Mapping[str, Variant] = {
            "Version": ("s", "252.39-1~deb12u1"),
            "SystemState": ("s", "degraded"),
        }
        self.silent: frozenset[str] = frozenset()
        self.asked = 0

    def answer(self, message: Message) -> Message | None:
        path, member = (message.header.fields[f] for f in (HeaderFields.path, HeaderFields.member))
        self.asked += 1
        if member == "ListUnits":
            rows = [_row(*unit) for unit in self.units]
            return new_method_return(message, "a(ssssssouso)", (rows,))
        interface, name = message.body
        if path.startswith(_PATH):
            properties = next(p for unit, p in self.units.items() if _path_of(unit[0]) == path)
            if path in map(_path_of, self.silent):
                return None
            found = properties.get(interface.rpartition(".")[2], {}).get(name)
        else:
            found = self.manager.get(name)
        if found is None:
            return new_error(message, "org.freedesktop.DBus.Error.UnknownProperty")
        return new_method_return(message, "v", (found,))


def _row(name: str, loaded: str, active: str) -> tuple[Any, ...]:
    return (name, "", loaded, active, "running", "", _path_of(name), 0, "", "/")


def _path_of(name: str) -> str:
    """systemd's own path of a unit, which go-systemd makes of the name."""
    escaped = (c if c.isalnum() else f"_{ord(c):02x}" for c in name)
    return f"{_PATH}/{''.join(escaped)}"


@contextmanager
def running_bus(directory: Any) -> Iterator[str]:
    """Its address; skips the test where there is no dbus-daemon."""
    if (binary := shutil.which("dbus-daemon")) is None:
        pytest.skip("dbus-daemon is not installed")
    socket = directory / "run/dbus/system_bus_socket"
    socket.parent.mkdir(parents=True)
    (directory / "bus.conf").write_text(_CONFIG.format(socket))
    bus = subprocess.Popen(
        [binary, f"--config-file={directory / 'bus.conf'}", "--nofork", "--print-address=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert bus.stdout is not None
    try:
        yield bus.stdout.readline().strip().partition(",")[0]
    finally:
        bus.kill()
        bus.wait(10)
        bus.stdout.close()


@contextmanager
def answering(address: str, service: FakeSystemd | FakeLogind) -> Iterator[None]:
    """`service` answers on that bus until the end."""
    connection = open_dbus_connection(address)
    asked = new_method_call(_BUS, "RequestName", "su", (service.bus_name, _NO_FLAGS))
    connection.send_and_get_reply(asked, timeout=10)
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            with suppress(TimeoutError):
                message = connection.receive(timeout=0.1)
                if message.header.message_type == MessageType.method_call:
                    if (answer := service.answer(message)) is not None:
                        connection.send(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(10)
        connection.close()
