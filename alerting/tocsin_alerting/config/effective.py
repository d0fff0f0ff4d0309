"""A configuration back to YAML: what holds, defaults and flags included, and no secret."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tocsin_alerting.config.config import Config
from tocsin_alerting.notify.contact_ways import masked_number
from tocsin_alerting.settings import NUMBER, SECRET, Bytes, Duration, Interval, size_text
from tocsin_alerting.time_format import format_duration

MASK = "<secret>"
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(?<=://)([^?#\s]*)([?#])\S+")


def effective(config: Config) -> str:
    """YAML that `load` would read again, but for what is masked.

    A webhook's address and headers are its password, as an engine's headers and parameters may be;
    every other secret is in a file of its own, and only that is named.
    """
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)


def plain_yaml(section: BaseModel) -> str:
    """One section, without secrets and without what was not set."""
    return yaml.safe_dump(_given(section), sort_keys=False, allow_unicode=True)


def _given(section: BaseModel) -> dict[str, Any]:
    shown = _section(section)
    for name in list(shown):
        value = getattr(section, name)
        if name not in section.model_fields_set:
            del shown[name]
        elif isinstance(value, BaseModel):
            shown[name] = _given(value)
    return shown


def _plain(value: Any, field: FieldInfo | None = None) -> Any:
    if isinstance(value, BaseModel):
        return _section(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, int) and field is not None:
        return _quantity(value, field)
    if isinstance(value, str):
        return without_user(str(value))
    return str(value) if isinstance(value, Path) else value


def _section(section: BaseModel) -> dict[str, Any]:
    """Without what is not set: nothing has `null` for a value in the file."""
    shown: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value is None:
            continue
        plain = _plain(value, field)
        hidden = _masked(plain) if SECRET in field.metadata else plain
        shown[field.alias or name] = _last_digits(value) if NUMBER in _marks(field) else hidden
    return shown


def _marks(field: FieldInfo) -> list[Any]:
    """Those of the field, and of what it may be instead of nothing."""
    kinds = get_args(field.annotation)
    return [*field.metadata, *(m for kind in kinds for m in getattr(kind, "__metadata__", ()))]


def _last_digits(value: Any) -> Any:
    """Of one telephone number or several."""
    if isinstance(value, str):
        return masked_number(value)
    return [masked_number(number) for number in value]


def _masked(value: Any) -> Any:
    return {name: MASK for name in value} if isinstance(value, dict) else MASK


def _quantity(value: int, field: FieldInfo) -> int | str:
    """Milliseconds and bytes as they are written in the file."""
    for kind in (field.annotation, *get_args(field.annotation)):
        metadata = [*field.metadata, *getattr(kind, "__metadata__", ())]
        for reads, text in _QUANTITIES:
            if any(reader in metadata for reader in reads):
                return text(value)
    return value


_QUANTITIES = [
    (Duration.__metadata__ + Interval.__metadata__, format_duration),  # type: ignore[attr-defined]
    (Bytes.__metadata__, size_text),  # type: ignore[attr-defined]
]


def without_login(text: str) -> str:
    """A URL without the user and the password in it."""
    return _USER.sub(f"{MASK}@", text)


def without_user(text: str) -> str:
    """A URL without the user, the password, the query and the fragment: any may be a key."""
    return _QUERY.sub(rf"\1\2{MASK}", without_login(text))
