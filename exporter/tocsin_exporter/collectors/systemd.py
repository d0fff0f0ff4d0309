"""Units of systemd, asked over D-Bus. Off unless switched on: it wakes systemd each time."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tocsin_exporter.catalogue import SERVICES
from tocsin_exporter.collectors.collector import CollectorError
from tocsin_exporter.collectors.dbus import Bus, BusRefused, system_bus
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.snapshot import Family, Sample, labels

_SERVICE = "org.freedesktop.systemd1"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_SERVICE}.Manager"
_UNIT = f"{_SERVICE}.Unit"
_STATES = ("active", "activating", "deactivating", "inactive", "failed")
_VERSION = re.compile(r"[0-9]{3,}(?:\.[0-9]+)?")
_UNKNOWN = 2**64 - 1  # what systemd says where it does not count
_MICROSECONDS = 1e6
_MOST_TYPES = 10_000  # that are remembered

_FAMILY = {
    name: SERVICES[f"node_systemd_{name}"]
    for name in (
        *("unit_state", "unit_start_time_seconds", "unit_tasks_current", "unit_tasks_max"),
        *("timer_last_trigger_seconds", "service_restart_total", "units", "system_running"),
        *("socket_accepted_connections_total", "socket_current_connections"),
        *("socket_refused_connections_total", "version"),
    )
}
_SOCKET = {
    "NAccepted": _FAMILY["socket_accepted_connections_total"],
    "NConnections": _FAMILY["socket_current_connections"],
    "NRefused": _FAMILY["socket_refused_connections_total"],
}
_TASKS = {
    "TasksCurrent": _FAMILY["unit_tasks_current"],
    "TasksMax": _FAMILY["unit_tasks_max"],
}
_WITH_TYPE = {"service": "Service", "mount": "Mount"}

Ask = Callable[[str, str], Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """One row of ListUnits; `kind` is what its name ends in."""

    name: str
    loaded: str
    active: str
    path: str

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]


class Systemd:
    """Asks on a HangGuard, over a connection of its own each time, as node_exporter does."""

    name = "systemd"

    def __init__(self, host: Host, most_units: int = 2000) -> None:
        """At most `most_units` are shown."""
        settings = host.settings
        self._most_units = most_units
        self._root: Path = host.root
        self._included = settings.whole("systemd.unit-include")
        self._excluded = settings.whole("systemd.unit-exclude")
        self._switches = settings.switches
        self._types: dict[str, str] = {}  # a unit's does not change while it is loaded
        self._guard = HangGuard(self.name)

    async def collect(self) -> Sequence[Sample]:
        """Raises CollectorError, with what was read, where there are more units than are shown."""
        try:
            return await self._guard.run(self._read)
        except BusRefused as error:
            raise CollectorError(f"systemd does not say: {error}") from error

    def close(self) -> None:
        self._guard.close()

    def _read(self) -> Sequence[Sample]:
        with system_bus(self._root, _SERVICE) as bus:
            listed = bus.call(_MANAGER_PATH, _MANAGER, "ListUnits")
            units = [Unit(row[0], row[2], row[3], row[6]) for row in listed]
            shown = [unit for unit in units if self._wanted(unit)]
            samples = [*_system(bus), *_summary(units)]
            for unit in shown[: self._most_units]:
                samples += self._unit(bus, unit)
        if len(shown) > self._most_units:
            said = f"{len(shown)} units, of which {self._most_units} are shown: "
            raise CollectorError(said + "choose by --collector.systemd.unit-include", samples)
        return samples

    def _wanted(self, unit: Unit) -> bool:
        by_name = self._included(unit.name) and not self._excluded(unit.name)
        return by_name and unit.loaded == "loaded"

    def _unit(self, bus: Bus, unit: Unit) -> Iterator[Sample]:
        def asked(interface: str, name: str) -> Any:
            return bus.property(unit.path, interface, name)

        kind = self._type(unit, asked) if unit.kind in _WITH_TYPE else ""
        for state in _STATES:
            of = labels(name=unit.name, state=state, type=kind)
            yield Sample(_FAMILY["unit_state"], float(state == unit.active), of)
        if "systemd.enable-start-time-metrics" in self._switches:
            yield from _started(unit, asked)
        if unit.kind == "service":
            yield from _service(unit, asked, self._switches)
        if unit.kind == "socket":
            yield from _numbers(unit, "Socket", _SOCKET, asked)
        if unit.kind == "timer":
            last = {"LastTriggerUSec": _FAMILY["timer_last_trigger_seconds"]}
            yield from _numbers(unit, "Timer", last, asked, _MICROSECONDS)

    def _type(self, unit: Unit, asked: Ask) -> str:
        """`notify` or `oneshot` of a service, `ext4` of a mount; nothing where none is said."""
        if unit.name not in self._types:
            if len(self._types) >= _MOST_TYPES:
                self._types.clear()
            try:
                kind = asked(f"{_SERVICE}.{_WITH_TYPE[unit.kind]}", "Type")
            except BusRefused:
                return ""
            self._types[unit.name] = str(kind)
        return self._types[unit.name]


def _system(bus: Bus) -> Iterator[Sample]:
    version = str(bus.property(_MANAGER_PATH, _MANAGER, "Version"))
    number = _VERSION.search(version)
    value, said = (float(number[0]), version) if number else (0.0, "")
    yield Sample(_FAMILY["version"], value, labels(version=said))
    state = bus.property(_MANAGER_PATH, _MANAGER, "SystemState")
    yield Sample(_FAMILY["system_running"], float(state == "running"))


def _summary(units: Sequence[Unit]) -> Iterator[Sample]:
    counts = Counter({state: 0 for state in _STATES})
    counts.update(unit.active for unit in units)
    for state, number in counts.items():
        yield Sample(_FAMILY["units"], number, labels(state=state))


def _started(unit: Unit, asked: Ask) -> Iterator[Sample]:
    at = 0
    if unit.active == "active":
        try:
            at = asked(_UNIT, "ActiveEnterTimestamp")
        except BusRefused:
            return
    yield Sample(_FAMILY["unit_start_time_seconds"], at / _MICROSECONDS, labels(name=unit.name))


def _service(unit: Unit, asked: Ask, switches: frozenset[str]) -> Iterator[Sample]:
    if "systemd.enable-restarts-metrics" in switches:
        restarts = {"NRestarts": _FAMILY["service_restart_total"]}
        yield from _numbers(unit, "Service", restarts, asked)
    if "systemd.enable-task-metrics" in switches:
        yield from _numbers(unit, "Service", _TASKS, asked)


def _numbers(
    unit: Unit, interface: str, names: dict[str, Family], asked: Ask, divisor: float = 1.0
) -> Iterator[Sample]:
    """Those that this release of systemd counts."""
    for name, family in names.items():
        try:
            value = asked(f"{_SERVICE}.{interface}", name)
        except BusRefused:
            continue
        if value != _UNKNOWN:
            yield Sample(family, value / divisor, labels(name=unit.name))
