"""Heat, clocks and power of the machine: thermal zones, cpufreq, RAPL, batteries and mains."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import HARDWARE
from tocsin_exporter.catalogue.hardware import POWER, RAPL
from tocsin_exporter.collectors.attributes import (
    AttributeCollector,
    entries,
    numbers,
    sampled,
    word,
    words,
)
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser
from tocsin_exporter.snapshot import Family, Sample, labels

_TEMPERATURE = {"temp": (HARDWARE["node_thermal_zone_temp"], 1000.0)}
_COOLING = {
    state: (HARDWARE[f"node_cooling_device_{state}"], 1.0) for state in ("cur_state", "max_state")
}
_HERTZ = 1e-3  # the files say kHz
_FREQUENCIES = {
    f"{file}_{which}_freq": (HARDWARE[f"node_cpu_{ours}frequency_{limit}hertz"], _HERTZ)
    for file, ours in (("cpuinfo", ""), ("scaling", "scaling_"))
    for which, limit in (("cur", ""), ("min", "min_"), ("max", "max_"))
}
_MICROJOULES = 1e6
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")

# Files of a power supply by what their number is divided by; some have another name with us.
_SUPPLY_FILES = {
    1.0: "authentic calibrate capacity capacity_alert_max capacity_alert_min cycle_count online "
    "present time_to_empty_now time_to_full_now",
    1e6: "current_boot current_max current_now energy_empty energy_empty_design energy_full "
    "energy_full_design energy_now voltage_boot voltage_max voltage_max_design voltage_min "
    "voltage_min_design voltage_now voltage_ocv charge_control_limit charge_control_limit_max "
    "charge_counter charge_empty charge_empty_design charge_full charge_full_design charge_now "
    "charge_term_current constant_charge_current constant_charge_current_max "
    "constant_charge_voltage constant_charge_voltage_max precharge_current input_current_limit "
    "power_now",
    10.0: "temp temp_alert_max temp_alert_min temp_ambient temp_ambient_max temp_ambient_min "
    "temp_max temp_min",
}
_OTHER_NAMES = {
    "cycle_count": "cyclecount",
    "time_to_empty_now": "time_to_empty_seconds",
    "time_to_full_now": "time_to_full_seconds",
    "current_now": "current_ampere",
    "energy_now": "energy_watthour",
    "voltage_now": "voltage_volt",
    "charge_now": "charge_ampere",
    "power_now": "power_watt",
}
_SUPPLY = HARDWARE["node_power_supply_info"]


def _supply_files() -> Iterator[tuple[str, tuple[Family, float]]]:
    for divisor, files in _SUPPLY_FILES.items():
        for file in files.split():
            name = _OTHER_NAMES.get(file, f"{file}_celsius" if divisor == 10 else file)
            yield file, (POWER.family(name), divisor)


_SUPPLY_VALUES: Mapping[str, tuple[Family, float]] = dict(_supply_files())

_ENERGY = HARDWARE["node_rapl_joules_total"]  # for those who want the zone as a label


def thermal_zone(host: Host) -> AttributeCollector:
    root = host.sys / "class/thermal"
    return AttributeCollector("thermal_zone", root, partial(_thermal, root))


def _thermal(root: Path, lines: LineParser) -> Iterator[Sample]:
    for zone in entries(root, "thermal_zone[0-9]*"):
        name, kind = zone.name.removeprefix("thermal_zone"), word(zone / "type") or ""
        yield from sampled(zone, _TEMPERATURE, labels(zone=name, type=kind), lines)
    for device in entries(root, "cooling_device[0-9]*"):
        name, kind = device.name.removeprefix("cooling_device"), word(device / "type") or ""
        yield from sampled(device, _COOLING, labels(name=name, type=kind), lines)


def cpufreq(host: Host) -> AttributeCollector:
    root = host.sys / "devices/system/cpu"
    return AttributeCollector("cpufreq", root, partial(_frequencies, root))


def _frequencies(root: Path, lines: LineParser) -> Iterator[Sample]:
    for cpu in entries(root, "cpu[0-9]*"):
        of_cpu = (("cpu", cpu.name.removeprefix("cpu")),)
        yield from sampled(cpu / "cpufreq", _FREQUENCIES, of_cpu, lines)


def rapl(host: Host) -> AttributeCollector:
    root = host.sys / "class/powercap"
    by_label = "rapl.enable-zone-label" in host.settings.switches
    return AttributeCollector("rapl", root, partial(_energy, root, by_label))


def _energy(root: Path, by_label: bool, lines: LineParser) -> Iterator[Sample]:
    """`package-0` is zone package with index 0; zones without a number are counted."""
    seen: Counter[str] = Counter()
    for zone in entries(root):
        if not (said := word(zone / "name")):
            continue
        name, _, index = said.rpartition("-")
        if said.count("-") != 1 or not index.isdecimal():
            name, index = said, str(seen[said])
            seen[said] += 1
        family = RAPL.family(_NOT_IN_A_NAME.sub("_", name), name)
        for value in numbers(zone / "energy_uj", lines):
            of_zone = {"index": str(int(index)), "path": str(zone)}
            if by_label:
                yield Sample(_ENERGY, value / _MICROJOULES, labels(**of_zone, rapl_zone=name))
            else:
                yield Sample(family, value / _MICROJOULES, labels(**of_zone))


def powersupplyclass(host: Host) -> AttributeCollector:
    root = host.sys / "class/power_supply"
    ignored = host.settings.pattern("powersupply.ignored-supplies")
    return AttributeCollector("powersupplyclass", root, partial(_supplies, root, ignored))


def _supplies(root: Path, ignored: re.Pattern[str], lines: LineParser) -> Iterator[Sample]:
    described = [name for name in HARDWARE.labels[_SUPPLY.name] if name != "power_supply"]
    for supply in entries(root):
        if ignored.search(supply.name):
            continue
        of_supply = labels(power_supply=supply.name)
        yield from sampled(supply, _SUPPLY_VALUES, of_supply, lines)
        said = words(supply, described)
        yield Sample(_SUPPLY, 1, labels(power_supply=supply.name, **said))
