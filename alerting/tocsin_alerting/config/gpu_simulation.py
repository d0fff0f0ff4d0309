"""The file of `--collector.gpu.simulate`: GPUs, how busy they are, and what goes wrong when."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tocsin_alerting.settings import Bytes, Duration, Interval, Section, several
from tocsin_alerting.yaml_document import (
    Document,
    InvalidDocument,
    Problem,
    did_you_mean,
    file_text,
    parse,
    unreadable,
)
from tocsin_alerting.yaml_model import validate
from tocsin_exporter import simulation
from tocsin_exporter.simulation.machine import (
    THROTTLES,
    ConstantLoad,
    DailyLoad,
    Fault,
    FaultKind,
    GpuModel,
    Load,
    Machine,
    MigProfile,
    SimulatedProcess,
    StepLoad,
)

MOST_GPUS = 64
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_PROFILE = re.compile(r"[1-7]g\.([1-9][0-9]{0,2})gb")
_VERSION = re.compile(r"([1-9][0-9]?)\.([0-9])")
_KINDS: tuple[FaultKind, ...] = (
    *("xid", "lost", "hang", "temperature", "ecc", "throttle", "nvlink_down"),
)


def _time_of_day(text: str) -> str:
    if _CLOCK.fullmatch(text) is None:
        raise ValueError('not a time of the day like "14:00" (UTC)')
    return text


def _profile(text: str) -> str:
    if _PROFILE.fullmatch(text) is None:
        raise ValueError("not a MIG profile like 1g.10gb")
    return text


def _version(text: str) -> str:
    if _VERSION.fullmatch(text) is None:
        raise ValueError('not a version like "12.8"; put it into quotes')
    return text


def _throttle(word: str) -> str:
    if word not in THROTTLES:
        near = did_you_mean(word, THROTTLES) or f"; use one of {', '.join(THROTTLES)}"
        raise ValueError(f'unknown reason "{word[:80]}"{near}')
    return word


Percent = Annotated[float, Field(ge=0, le=100, strict=False)]
Watts = Annotated[float, Field(ge=0, le=10_000, strict=False)]
Celsius = Annotated[float, Field(ge=-40, le=200, strict=False)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Version = Annotated[str, AfterValidator(_version)]
Pid = Annotated[int, Field(ge=1, le=2**31)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[ -~]+$")]


class PciePart(Section):
    generation: int = Field(default=5, ge=1, le=7)
    width: int = Field(default=16, ge=1, le=16)


class PowerPart(Section):
    idle: Watts = 70.0
    limit: Watts = 700.0


class TemperaturePart(Section):
    idle: Celsius = 32.0
    busy: Celsius = 70.0


class ClocksPart(Section):
    sm: int = Field(default=1980, ge=1, le=10_000)
    memory: int = Field(default=2619, ge=1, le=30_000)


class DailyPart(Section):
    low: Percent
    high: Percent
    peak: TimeOfDay = "14:00"


class StepPart(Section):
    for_: Interval = Field(alias="for")
    percent: Percent


class LoadPart(Section):
    daily: DailyPart | None = None
    steps: Annotated[tuple[StepPart, ...], BeforeValidator(several)] = ()

    @model_validator(mode="after")
    def _one(self) -> "LoadPart":
        if (self.daily is None) == (not self.steps):
            raise ValueError("give a number of percent, daily, or steps")
        return self

    @property
    def load(self) -> Load:
        if self.daily is None:
            return StepLoad(tuple((step.for_ / 1000, step.percent / 100) for step in self.steps))
        hours, minutes = map(int, self.daily.peak.split(":"))
        low, high = self.daily.low / 100, self.daily.high / 100
        return DailyLoad(low, high, hours * 3600.0 + minutes * 60)


def _constant(value: object) -> object:
    """A bare number is as many percent all the time."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"steps": [{"for": "1h", "percent": value}]}
    return value


class ProcessPart(Section):
    pid: Pid
    name: Name
    memory: Bytes
    share: Percent = 100.0


class GpuPart(Section):
    """`count` GPUs alike."""

    model: Name
    count: int = Field(default=1, ge=1, le=MOST_GPUS)
    memory: Bytes
    memory_used: Percent = 0.0
    load: Annotated[LoadPart, BeforeValidator(_constant)]
    compute_capability: Version = "9.0"
    profiling: bool = False
    ecc: bool = False
    memory_temperature: bool = False
    fabric: bool = False
    nvlinks: int = Field(default=0, ge=0, le=18)
    fans: int = Field(default=0, ge=0, le=16)
    pcie: PciePart = PciePart()
    power: PowerPart = PowerPart()
    temperature: TemperaturePart = TemperaturePart()
    clocks: ClocksPart = ClocksPart()
    mig: Annotated[
        tuple[Annotated[str, AfterValidator(_profile)], ...],
        BeforeValidator(several),
        Field(max_length=7),
    ] = ()
    processes: Annotated[tuple[ProcessPart, ...], BeforeValidator(several)] = ()

    @model_validator(mode="after")
    def _split(self) -> "GpuPart":
        if self.mig and not self.profiling:
            raise ValueError("a GPU with mig has profiling; add profiling: true")
        return self


class FaultPart(Section):
    """Exactly one of the kinds says what is wrong; `for` how long, to the end without it."""

    after: Duration = 0
    gpu: int = Field(ge=0, lt=MOST_GPUS)
    for_: Interval | None = Field(default=None, alias="for")
    xid: int | None = Field(default=None, ge=1, le=1000)
    lost: bool = False
    hang: bool = False
    temperature: Celsius | None = None
    ecc: int | None = Field(default=None, ge=1)
    corrected: bool = False
    throttle: Annotated[str, AfterValidator(_throttle)] | None = None
    nvlink_down: int | None = Field(default=None, ge=0, le=17)

    @model_validator(mode="after")
    def _one(self) -> "FaultPart":
        if len(self.kinds) != 1:
            raise ValueError(f"say what goes wrong, one of {', '.join(_KINDS)}")
        return self

    @property
    def kinds(self) -> dict[FaultKind, float]:
        """What goes wrong, with its number; those that are given."""
        told: dict[FaultKind, float | None] = {
            "xid": self.xid,
            "lost": 1 if self.lost else None,
            "hang": 1 if self.hang else None,
            "temperature": self.temperature,
            "ecc": self.ecc,
            "throttle": None if self.throttle is None else THROTTLES[self.throttle],
            "nvlink_down": self.nvlink_down,
        }
        return {kind: float(value) for kind, value in told.items() if value is not None}

    @property
    def fault(self) -> Fault:
        ((kind, value),) = self.kinds.items()
        lasts = math.inf if self.for_ is None else self.for_ / 1000
        return Fault(kind, self.gpu, self.after / 1000, lasts, value, self.corrected)


class SimulationFile(Section):
    driver: Name = "570.86.15"
    cuda: Version = "12.8"
    gpus: Annotated[tuple[GpuPart, ...], BeforeValidator(several), Field(min_length=1)]
    faults: Annotated[tuple[FaultPart, ...], BeforeValidator(several)] = ()


def bundled_simulations() -> Mapping[str, Path]:
    """Those that come with the package, by the name that the option takes."""
    files = sorted(Path(simulation.__file__).parent.glob("*.yml"))
    return {f"bundled/{path.stem}": path for path in files}


def load_simulation(path: Path) -> Machine:
    """Raises InvalidDocument with every place."""
    try:
        document = parse(file_text(path), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(str(path), error) from None
    read = validate(SimulationFile, document)
    gpus = tuple(_model(part) for part in read.gpus for _ in range(part.count))
    if problems := list(_problems(document, read, gpus)):
        raise InvalidDocument(problems)
    major, minor = map(int, read.cuda.split("."))
    faults = tuple(part.fault for part in read.faults)
    return Machine(gpus, faults, read.driver, major * 1000 + minor * 10)


def _problems(
    document: Document, read: SimulationFile, gpus: tuple[GpuModel, ...]
) -> Iterator[Problem]:
    if len(gpus) > MOST_GPUS:
        yield document.problem(("gpus",), f"gpus: {len(gpus)} GPUs; at most {MOST_GPUS}")
    for number, fault in enumerate(read.faults):
        place = ("faults", number, "gpu")
        if fault.gpu >= len(gpus):
            last = len(gpus) - 1
            yield document.problem(place, f"faults.{number}.gpu: the last GPU is {last}")
            continue
        made = gpus[fault.gpu]
        if fault.ecc is not None and not made.ecc:
            yield document.problem(place, f"faults.{number}.gpu: this GPU has no ecc")
        if fault.nvlink_down is not None and fault.nvlink_down >= made.nvlinks:
            message = f"faults.{number}.gpu: this GPU has {made.nvlinks} nvlinks, from 0"
            yield document.problem(place, message)


def _model(part: GpuPart) -> GpuModel:
    major, minor = map(int, part.compute_capability.split("."))
    load = part.load.load
    if isinstance(load, StepLoad) and len(load.steps) == 1:
        load = ConstantLoad(load.steps[0][1])
    return GpuModel(
        model=part.model,
        memory=part.memory,
        load=load,
        compute_capability=(major, minor),
        memory_used=part.memory_used / 100,
        power=(part.power.idle, part.power.limit),
        temperature=(part.temperature.idle, part.temperature.busy),
        clocks=(part.clocks.sm, part.clocks.memory),
        pcie=(part.pcie.generation, part.pcie.width),
        nvlinks=part.nvlinks,
        fans=part.fans,
        profiling=part.profiling,
        ecc=part.ecc,
        memory_temperature=part.memory_temperature,
        fabric=part.fabric,
        mig=tuple(MigProfile(name, _mig_bytes(name)) for name in part.mig),
        processes=tuple(
            SimulatedProcess(one.pid, one.name, one.memory, one.share / 100)
            for one in part.processes
        ),
    )


def _mig_bytes(name: str) -> int:
    size = _PROFILE.fullmatch(name)
    return (int(size[1]) if size else 0) << 30
