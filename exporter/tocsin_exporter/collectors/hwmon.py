"""Sensors of the board and its chips: /sys/class/hwmon, named as node_exporter names them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tocsin_exporter.catalogue import HARDWARE
from tocsin_exporter.catalogue.hardware import HWMON, HWMON_ENERGY
from tocsin_exporter.collectors.attributes import AttributeCollector, entries, line, word
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, number
from tocsin_exporter.snapshot import Family, Labels, Sample, labels

_CHIP = HARDWARE["node_hwmon_chip_names"]
_LABEL = HARDWARE["node_hwmon_sensor_label"]
_BEEP = HARDWARE["node_hwmon_beep_enabled"]
_OWN_NAMES = {  # sensor types with one value and a name of their own, and what divides the value
    "vrm": (HARDWARE["node_hwmon_voltage_regulator_version"], 1.0),
    "update_interval": (HARDWARE["node_hwmon_update_interval_seconds"], 1000.0),
}
_TYPES = (
    *("vrm", "beep_enable", "update_interval", "in", "cpu", "fan", "pwm", "temp", "curr"),
    *("power", "energy", "humidity", "intrusion"),
)
_FILE = re.compile(r"([^0-9]+)([0-9]*)(?:_(.+))?")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9:_]")
_MILLI, _MICRO = 1e3, 1e6
_ROTATIONS = ("input", "min", "max", "target")
_INTERVALS = ("average_interval", "average_interval_min", "average_interval_max")

Sensors = Mapping[str, Mapping[str, str]]  # "temp1" -> "input", "max", ... -> what the file says


def hwmon(host: Host) -> AttributeCollector:
    root = host.sys / "class/hwmon"
    return AttributeCollector("hwmon", root, lambda lines: _read(root, lines))


def _read(root: Path, _lines: LineParser) -> Iterator[Sample]:
    for directory in entries(root):
        yield from parse(_chip(directory), word(directory / "name") or "", _sensors(directory))


def _chip(directory: Path) -> str:
    """The device's place on its bus, which stays; else its name; else its number."""
    try:
        device = (directory / "device").resolve(strict=True)
    except OSError:
        return _clean(word(directory / "name") or "") or _clean(directory.resolve().name)
    bus, name = _clean(device.parent.name), _clean(device.name)
    return f"{bus}_{name}" if bus and name else name


def _clean(name: str) -> str:
    return _NOT_IN_A_NAME.sub("_", name.lower()).strip("_")


def _sensors(directory: Path) -> Sensors:
    sensors: dict[str, dict[str, str]] = {}
    for place in (directory, directory / "device"):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            match = _FILE.fullmatch(path.name)
            if match and match[1] in _TYPES and (said := line(path)) is not None:
                sensor = f"{match[1]}{int(match[2] or 0)}"
                sensors.setdefault(sensor, {})[match[3] or ""] = said
    return sensors


def parse(chip: str, name: str, sensors: Sensors) -> Iterator[Sample]:
    if _clean(name):
        yield Sample(_CHIP, 1, labels(chip=chip, chip_name=_clean(name)))
    for sensor, said in sensors.items():
        of_sensor = labels(chip=chip, sensor=sensor)
        if "label" in said:
            yield Sample(_LABEL, 1, labels(chip=chip, sensor=sensor, label=said["label"]))
        yield from _sensor(sensor.rstrip("0123456789"), said, of_sensor)


def _sensor(kind: str, said: Mapping[str, str], of: Labels) -> Iterator[Sample]:
    if kind == "beep_enable":
        yield Sample(_BEEP, float(said.get("", "").strip() == "1"), of)
        return
    for element, content in said.items():
        value = _number(content)
        if element == "label" or value is None:
            continue
        if kind in _OWN_NAMES:
            family, divisor = _OWN_NAMES[kind]
        else:
            family, divisor = _family(kind, element, "" in said)
        yield Sample(family, value / divisor, of)


def _number(content: str) -> float | None:
    try:
        return number(content.strip())
    except ValueError:
        return None


def _family(kind: str, element: str, twice: bool) -> tuple[Family, float]:
    """The family of one file, and what its number is to be divided by.

    `twice` where the sensor has a file without an element beside its `input`.
    """
    name = f"{kind}_{_clean(element)}" if element else kind
    if element == "input" and not twice:
        name = kind
    suffix, divisor, help = _unit(kind, element)
    if kind == "energy":
        return HWMON_ENERGY.family(name, help), divisor
    return HWMON.family(name + suffix, help), divisor


def _unit(kind: str, element: str) -> tuple[str, float, str]:
    """How the name goes on, the divisor and the help text; the first that fits, as upstream."""
    if element in ("fault", "alarm"):
        return "", 1, f"Hardware sensor {element} status ({kind})"
    if element == "beep":
        return "_enabled", 1, "Hardware monitor sensor has beeping enabled"
    if kind in ("in", "cpu"):
        return "_volts", _MILLI, f"Hardware monitor for voltage ({element})"
    if kind == "temp" and element != "type":
        return "_celsius", _MILLI, f"Hardware monitor for temperature ({element or 'input'})"
    if kind == "curr":
        return "_amps", _MILLI, f"Hardware monitor for current ({element})"
    if kind == "energy":
        return "", _MICRO, f"Hardware monitor for joules used so far ({element})"
    if kind == "power":
        return _power(element)
    if kind == "humidity":
        ratio = "as a ratio (multiply with 100.0 to get the humidity as a percentage)"
        return "", _MICRO, f"Hardware monitor for humidity, {ratio} ({element})"
    if kind == "fan" and element in _ROTATIONS:
        return "_rpm", 1, f"Hardware monitor for fan revolutions per minute ({element})"
    return "", 1, f"Hardware monitor {kind} element {element}"


def _power(element: str) -> tuple[str, float, str]:
    if element == "accuracy":
        return "", _MICRO, "Hardware monitor power meter accuracy, as a ratio"
    if element in _INTERVALS:
        return "_seconds", _MILLI, f"Hardware monitor power usage update interval ({element})"
    return "_watt", _MICRO, f"Hardware monitor for power usage in watts ({element})"
