"""Intel GPUs (i915, xe) from sysfs: energy, temperatures, clocks and idle time, as `gpu_*`."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import text
from tocsin_exporter.collectors.nvml_query import with_labels
from tocsin_exporter.snapshot import Labels, Sample, labels

_NUMBER = re.compile(r"-?(?:0x[0-9a-f]+|0|[1-9][0-9]*)")
_CARD = re.compile(r"card([0-9]+)")
_DRIVERS = ("i915", "xe")
_VENDOR = labels(vendor="intel")
# Of each GT, below the card or its device: (clock, idle time), i915's and xe's.
_GT = (("gt/gt*", "rps_act_freq_mhz", "rc6_residency_ms"),
       ("device/tile*/gt*", "freq0/act_freq", "gtidle/idle_residency_ms"))  # fmt: skip


def gpu_intel(host: Host) -> "IntelGpus":
    return IntelGpus(host.sys)


class IntelGpus:
    """All Intel GPUs below `sys`, read on one guard: a GPU that sleeps may have to wake up."""

    name = "gpu_intel"

    def __init__(self, sys: Path) -> None:
        self._drm = sys / "class/drm"
        self._guard = HangGuard("intel gpus")
        self._expected = 0

    async def collect(self) -> Sequence[Sample]:
        """Raises Unavailable without one, until one was seen."""
        samples, count = await self._guard.run(self._read)
        self._expected = max(self._expected, count)
        if not self._expected:
            raise Unavailable("no Intel GPU")
        samples.append(Sample(GPU["gpu_devices"], float(count), _VENDOR))
        samples.append(Sample(GPU["gpu_devices_expected"], float(self._expected), _VENDOR))
        return samples

    def close(self) -> None:
        self._guard.close()

    def _read(self) -> tuple[list[Sample], int]:
        try:
            found = {int(m[1]): p for p in self._drm.iterdir() if (m := _CARD.fullmatch(p.name))}
        except OSError:
            return [], 0
        cards = [(n, card) for n, card in sorted(found.items()) if _driver(card) in _DRIVERS]
        return [sample for n, card in cards for sample in _card(n, card)], len(cards)


def _driver(card: Path) -> str:
    try:
        return (card / "device/driver").resolve(strict=True).name
    except OSError:
        return ""


def _card(number: int, card: Path) -> Iterator[Sample]:
    own = labels(gpu=str(number), UUID=(card / "device").resolve().name)  # its PCI address
    model = f"Intel {_word(card / 'device/device')}"
    info = (("vendor", "intel"), ("modelName", model), ("driver_version", _driver(card)))
    yield Sample(GPU["gpu_info"], 1.0, with_labels(own, *info))
    for hwmon in sorted((card / "device/hwmon").glob("hwmon*")):
        yield from _hwmon(hwmon, own)
    for pattern, clock, idle in _GT:
        for gt in sorted(card.glob(pattern)):
            of_gt = with_labels(own, ("clock", gt.name))
            yield from _one(gt / clock, "gpu_clock_hertz", 1e6, of_gt)
            yield from _one(gt / idle, "gpu_idle_seconds_total", 1e-3,
                            with_labels(own, ("gt", gt.name)))  # fmt: skip
    for memory in sorted(card.glob("device/tile*/physical_vram_size_bytes")):
        yield from _one(memory, "gpu_memory_total_bytes", 1.0, own)


def _hwmon(hwmon: Path, own: Labels) -> Iterator[Sample]:
    yield from _one(hwmon / "energy1_input", "gpu_energy_joules_total", 1e-6, own)
    yield from _one(hwmon / "power1_input", "gpu_power_watts", 1e-6, own)
    for path in sorted(hwmon.glob("temp*_input")):
        sensor = _word(hwmon / path.name.replace("_input", "_label")) or path.name[:-6]
        labelled = with_labels(own, ("sensor", sensor))
        yield from _one(path, "gpu_temperature_celsius", 1e-3, labelled)


def _one(path: Path, family: str, factor: float, own: Labels) -> Iterator[Sample]:
    """Nothing where the file is not there or is no number."""
    if _NUMBER.fullmatch(word := _word(path)):
        yield Sample(GPU[family], int(word, 0) * factor, own)


def _word(path: Path) -> str:
    try:
        return text(path).strip()
    except OSError:
        return ""
