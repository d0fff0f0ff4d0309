"""Who is logged in, counted by kind: asked of logind over D-Bus, off unless switched on."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from tocsin_exporter.catalogue import SERVICES
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.dbus import Bus, BusRefused, system_bus
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.snapshot import Sample, labels

_SESSIONS = SERVICES["node_logind_sessions"]
_SERVICE = "org.freedesktop.login1"
_PATH = "/org/freedesktop/login1"
_MANAGER = f"{_SERVICE}.Manager"
_SESSION = f"{_SERVICE}.Session"
_REMOTE = ("true", "false")
_TYPES = ("other", "unspecified", "tty", "x11", "wayland", "mir", "web")
_CLASSES = ("other", "user", "greeter", "lock-screen", "background")
_NO_SEAT = ""  # of those who come over the network


class Logind:
    """Asks on a HangGuard, over a connection of its own each time."""

    name = "logind"

    def __init__(self, host: Host) -> None:
        self._root: Path = host.root
        self._guard = HangGuard(self.name)

    async def collect(self) -> Sequence[Sample]:
        try:
            return await self._guard.run(self._read)
        except BusRefused as error:
            raise CollectorError(f"logind does not say: {error}") from error

    def close(self) -> None:
        self._guard.close()

    def _read(self) -> Sequence[Sample]:
        with system_bus(self._root, _SERVICE) as bus:
            listed = bus.call(_PATH, _MANAGER, "ListSeats")
            seats = [*(str(seat) for seat, _path in listed), _NO_SEAT]
            counts = Counter(_kinds(bus))
        return [
            Sample(_SESSIONS, counts[seat, remote, kind, of_class], labels(
                seat=seat, remote=remote, type=kind, **{"class": of_class}
            ))
            for remote, kind, of_class, seat in product(_REMOTE, _TYPES, _CLASSES, seats)
        ]  # fmt: skip


def _kinds(bus: Bus) -> Iterator[tuple[str, str, str, str]]:
    """Seat, remote, type and class of each; nothing of one that has ended meanwhile."""
    for *_numbers, seat, path in bus.call(_PATH, _MANAGER, "ListSessions"):
        try:
            remote = bus.property(path, _SESSION, "Remote")
            kind, of_class = (bus.property(path, _SESSION, name) for name in ("Type", "Class"))
        except BusRefused:
            continue
        known = kind if kind in _TYPES else "other", of_class if of_class in _CLASSES else "other"
        yield str(seat), str(remote).lower(), *known
