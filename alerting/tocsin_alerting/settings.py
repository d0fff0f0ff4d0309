"""What every section of a configuration is made of: strict, frozen, durations as Prometheus's."""

import math
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from tocsin_alerting.time_format import UNITS_MS, read_duration

_SHIFTS = {"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
_LARGE = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_SIZE = re.compile(f"([0-9]{{1,6}})({'|'.join(_SHIFTS)})")
_MAX_MS = 100 * UNITS_MS["y"]


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values are not converted, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


SECRET = "masked wherever the configuration is shown"
"""Marks a key (`Annotated[..., SECRET]`) whose value may be a secret although it stands in the
file, as the address of a webhook."""


NUMBER = "only its last digits are shown"
"""Marks a key that holds a telephone number: shown are its last digits."""


def duration_ms(text: object) -> int:
    """`1m30s` in milliseconds. Raises ValueError for what Prometheus would not read either."""
    ms = read_duration(text) if isinstance(text, str) else None
    if ms is None:
        raise ValueError("not a duration; write it like 30s, 1m30s or 0s, the longest unit first")
    if ms > _MAX_MS:
        raise ValueError("longer than 100 years")
    return ms


def number_text(value: float) -> str:
    """`value` in at most four digits for people: 0.998, 42, 1.235M, 3.2e-05."""
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else ("infinite" if value > 0 else "-infinite")
    size = abs(float(f"{value:.4g}"))
    if not 1e4 <= size < 1e15:
        return f"{value:.3g}" if 0 < size < 0.001 else f"{value:.4g}"
    unit, scale = next(entry for entry in _LARGE if size >= entry[1])
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


def http_url(text: str, like: str) -> str:
    if not is_http_url(text):
        raise ValueError(f"not a URL like {like}")
    return text


def regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


def is_http_url(text: str) -> bool:
    """Whether `text` is a URL of http or https that a client can ask."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and text.isprintable() and " " not in text
