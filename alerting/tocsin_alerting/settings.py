"""What every section of a configuration is made of: strict, frozen, durations as Prometheus's."""

import math
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

_UNITS_MS = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_DURATION = re.compile("".join(f"(?:([0-9]+){unit})?" for unit in _UNITS_MS))
_SHIFTS = {"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
_LARGE = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_SIZE = re.compile(f"([0-9]{{1,6}})({'|'.join(_SHIFTS)})")
_MAX_MS = 100 * _UNITS_MS["y"]


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values are not converted, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def duration_ms(text: object) -> int:
    """`1m30s` in milliseconds. Raises ValueError for what Prometheus would not read either."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        raise ValueError("not a duration; write it like 30s, 1m30s or 0s, the longest unit first")
    amounts = zip(match.groups(), _UNITS_MS.values(), strict=True)
    total = sum(int(amount or 0) * unit for amount, unit in amounts)
    if total > _MAX_MS:
        raise ValueError("longer than 100 years")
    return total


def duration_text(ms: int) -> str:
    """The shortest way to write `ms` as a duration: 90000 is `1m30s`."""
    words: list[str] = []
    for unit, size in _UNITS_MS.items():
        count, ms = divmod(ms, size)
        words += [f"{count}{unit}"] if count else []
    return "".join(words) or "0s"


def elapsed_text(ms: int) -> str:
    """What has passed, in whole seconds: `2m1s`."""
    return duration_text(max(ms, 0) // 1000 * 1000)


def number_text(value: float) -> str:
    """`value` in at most four digits for people: 0.998, 42, 1.235M, 3.2e-05."""
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else ("infinite" if value > 0 else "-infinite")
    size = abs(float(f"{value:.4g}"))
    if not 1e4 <= size < 1e15:
        return f"{value:.3g}" if 0 < size < 0.001 else f"{value:.4g}"
    unit, scale = next(one for one in _LARGE if size >= one[1])
    return f"{value / scale:.4g}{unit}"


def size_bytes(text: object) -> int:
    """`512MiB` in bytes. Raises ValueError for what is no size, or none at all."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError("not a size; write it like 512MiB or 2GiB")
    return int(match[1]) << _SHIFTS[match[2]]


def size_text(size: int) -> str:
    """`size` bytes, whole KiB of them, as `size_bytes` reads them: 2147483648 is `2GiB`."""
    unit = next(unit for unit, shift in reversed(_SHIFTS.items()) if size % (1 << shift) == 0)
    return f"{size >> _SHIFTS[unit]}{unit}"


def _positive(value: object) -> int:
    ms = duration_ms(value)
    if ms == 0:
        raise ValueError("must be longer than 0s")
    return ms


def several(value: object) -> object:
    """A YAML list as the tuple that a frozen section holds; anything else is left to be refused."""
    return tuple(value) if isinstance(value, list) else value


def _path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("must be the path of a file")
    return Path(value)


def _refused(value: object, info: ValidationInfo) -> None:
    if value is not None:
        name = info.field_name
        raise ValueError(
            "a secret has no place in this file; write it into a file of its own and name that "
            f"with {name}_file, or name an environment variable with {name}_env"
        )


Duration = Annotated[int, BeforeValidator(duration_ms)]
Bytes = Annotated[int, BeforeValidator(size_bytes)]
Interval = Annotated[int, BeforeValidator(_positive)]
FilePath = Annotated[Path, BeforeValidator(_path)]
RefusedKey = Annotated[None, BeforeValidator(_refused)]
Words = Annotated[tuple[str, ...], BeforeValidator(several)]
