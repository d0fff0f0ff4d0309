"""What every section of a configuration is made of: strict, frozen, durations as Prometheus's."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from tocsin_alerting.promql.durations import parse_duration


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values are not converted, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def duration_ms(text: object) -> int:
    """`1m30s` in milliseconds. Raises ValueError for what Prometheus would not read either."""
    try:
        return parse_duration(text if isinstance(text, str) else "")
    except ValueError:
        raise ValueError(
            "not a duration; write it like 30s, 1m30s or 0s, the longest unit first"
        ) from None


def _positive(value: object) -> int:
    ms = duration_ms(value)
    if ms == 0:
        raise ValueError("must be longer than 0s")
    return ms


def several(value: object) -> object:
    """A YAML list as the tuple that a frozen section holds; anything else is left to be refused."""
    return tuple(value) if isinstance(value, list) else value


def _path(value: object) -> object:
    return Path(value) if isinstance(value, str) and value else value


def _refused(value: object, info: ValidationInfo) -> None:
    if value is not None:
        name = info.field_name
        raise ValueError(
            "a secret has no place in this file; write it into a file of its own and name that "
            f"with {name}_file, or name an environment variable with {name}_env"
        )


Duration = Annotated[int, BeforeValidator(duration_ms)]
Interval = Annotated[int, BeforeValidator(_positive)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Refused = Annotated[None, BeforeValidator(_refused)]
Words = Annotated[tuple[str, ...], BeforeValidator(several)]
