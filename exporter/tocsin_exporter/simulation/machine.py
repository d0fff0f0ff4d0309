"""A machine with GPUs as a file describes it, and what its GPUs do at a moment.

Times are Unix seconds; those of loads and faults count from the start of the simulation.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, Protocol

DAY_SECONDS = 86_400.0

# Bits of the clocks' event reasons that a fault may set, named as dcgm-exporter names them.
THROTTLES = {
    "power_cap": 4,
    "hw_slowdown": 8,
    "sync_boost": 16,
    "sw_thermal": 32,
    "hw_thermal": 64,
    "hw_power_brake": 128,
}
FaultKind = Literal["xid", "lost", "hang", "temperature", "ecc", "throttle", "nvlink_down"]


class Load(Protocol):
    """How busy a GPU is, 0 to 1."""

    def at(self, now: float, elapsed: float) -> float: ...


@dataclass(frozen=True, slots=True)
class ConstantLoad:
    share: float

    def at(self, now: float, elapsed: float) -> float:
        return self.share


@dataclass(frozen=True, slots=True)
class DailyLoad:
    """A sine a day, in UTC: highest at `peak`, seconds after midnight."""

    low: float
    high: float
    peak: float

    def at(self, now: float, elapsed: float) -> float:
        angle = 2 * math.pi * ((now - self.peak) % DAY_SECONDS) / DAY_SECONDS
        return self.low + (self.high - self.low) * (1 + math.cos(angle)) / 2


@dataclass(frozen=True, slots=True)
class StepLoad:
    """(seconds, share) one after the other, again and again."""

    steps: tuple[tuple[float, float], ...]

    def at(self, now: float, elapsed: float) -> float:
        rest = elapsed % sum(seconds for seconds, _ in self.steps)
        for seconds, share in self.steps:
            if rest < seconds:
                return share
            rest -= seconds
        return self.steps[-1][1]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong `after` so many seconds and for how long. `value` is the XID, degrees
    Celsius, how many errors of the memory, the bit of the throttling or the number of the link;
    `corrected` is about errors of the memory."""

    kind: FaultKind
    gpu: int
    after: float
    lasts: float = math.inf
    value: float = 0.0
    corrected: bool = False

    def active(self, elapsed: float) -> bool:
        return self.after <= elapsed < self.after + self.lasts


@dataclass(frozen=True, slots=True)
class SimulatedProcess:
    """`memory` in bytes, `share` of what the GPU does."""

    pid: int
    name: str
    memory: int
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class MigProfile:
    """`name` as `1g.10gb`, `memory` in bytes."""

    name: str
    memory: int


@dataclass(frozen=True, slots=True)
class GpuModel:
    """One GPU as it is made. Memory in bytes, power in watts, temperatures in Celsius, clocks in
    MHz; `nvlinks` and `fans` are numbers of them."""

    model: str
    memory: int
    load: Load
    compute_capability: tuple[int, int] = (9, 0)
    memory_used: float = 0.0
    reserved: int = 512 << 20
    power: tuple[float, float] = (70.0, 700.0)
    temperature: tuple[float, float] = (32.0, 70.0)
    clocks: tuple[int, int] = (1980, 2619)
    pcie: tuple[int, int] = (5, 16)
    nvlinks: int = 0
    fans: int = 0
    profiling: bool = False
    ecc: bool = False
    memory_temperature: bool = False
    fabric: bool = False
    mig: tuple[MigProfile, ...] = ()
    processes: tuple[SimulatedProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    gpus: tuple[GpuModel, ...]
    faults: tuple[Fault, ...] = ()
    driver: str = "570.86.15"
    cuda: int = 12080

    @property
    def process_names(self) -> Mapping[int, str]:
        return {process.pid: process.name for gpu in self.gpus for process in gpu.processes}


@dataclass(slots=True)
class Totals:
    """What only grows: seconds of full load, and of each throttling by its bit."""

    seconds: float = 0.0
    busy: float = 0.0
    throttled: dict[int, float] = field(default_factory=dict)


class SimulatedGpu:
    """One GPU at work since `started`."""

    def __init__(
        self, index: int, made: GpuModel, faults: tuple[Fault, ...], started: float
    ) -> None:
        self.index = index
        self.made = made
        self._faults = faults
        self._started = started
        self._lock = Lock()
        self._at = started
        self._totals = Totals()

    @property
    def uuid(self) -> str:
        return f"GPU-51a7ed00-0000-4000-8000-{self.index:012d}"

    def load(self, now: float) -> float:
        return min(1.0, max(0.0, self.made.load.at(now, now - self._started)))

    def faults(self, kind: FaultKind, now: float) -> Iterator[Fault]:
        """Those that hold now."""
        elapsed = now - self._started
        return (one for one in self._faults if one.kind == kind and one.active(elapsed))

    def has(self, kind: FaultKind, now: float) -> bool:
        return any(self.faults(kind, now))

    def temperature(self, now: float) -> float:
        idle, busy = self.made.temperature
        return max([idle + (busy - idle) * self.load(now), *self._values("temperature", now)])

    def power(self, now: float) -> float:
        idle, limit = self.made.power
        return idle + (limit - idle) * self.load(now)

    def throttling(self, now: float) -> int:
        """The mask of the clocks' event reasons."""
        return sum({int(value) for value in self._values("throttle", now)})

    def memory_errors(self, now: float, corrected: bool) -> int:
        """Since the start."""
        elapsed = now - self._started
        return sum(
            int(one.value)
            for one in self._faults
            if one.kind == "ecc" and one.corrected == corrected and one.after <= elapsed
        )

    def links(self, now: float) -> dict[int, bool]:
        """Whether each NVLink is up."""
        down = {int(value) for value in self._values("nvlink_down", now)}
        return {link: link not in down for link in range(self.made.nvlinks)}

    def totals(self, now: float) -> Totals:
        """Until now; what was told never falls."""
        with self._lock:
            seconds = max(0.0, now - self._at)
            self._at += seconds
            totals = self._totals
            totals.seconds += seconds
            totals.busy += seconds * self.load(now)
            for bit in THROTTLES.values():
                if self.throttling(now) & bit:
                    totals.throttled[bit] = totals.throttled.get(bit, 0.0) + seconds
            return Totals(totals.seconds, totals.busy, dict(totals.throttled))

    def _values(self, kind: FaultKind, now: float) -> list[float]:
        return [one.value for one in self.faults(kind, now)]


def running(machine: Machine, started: float) -> list[SimulatedGpu]:
    return [
        SimulatedGpu(index, made, tuple(one for one in machine.faults if one.gpu == index), started)
        for index, made in enumerate(machine.gpus)
    ]
