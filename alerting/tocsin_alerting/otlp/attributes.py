"""Attributes of OpenTelemetry as texts, each value as its collector writes it."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from tocsin_alerting.strconv import exponent, format_number

_MOST_DEPTH = 32


def attribute(key_value: Mapping[str, Any]) -> tuple[str, str]:
    """The key and the value of a KeyValue; raises ValueError for what is none."""
    return str(key_value.get("key", "")), _text(_value(key_value.get("value") or {}, 0))


def _value(any_value: Mapping[str, Any], depth: int) -> Any:
    """What stands in an AnyValue."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"attributes within attributes, more than {_MOST_DEPTH} deep")
    for kind, value in any_value.items():
        match kind:
            case "stringValue" | "bytesValue":
                return value
            case "boolValue":
                return bool(value)
            case "intValue":
                return int(value)
            case "doubleValue":
                return float(value)
            case "arrayValue":
                return [_value(each, depth + 1) for each in value.get("values", ())]
            case "kvlistValue":
                pairs = value.get("values", ())
                return {
                    str(each.get("key", "")): _value(each.get("value") or {}, depth + 1)
                    for each in pairs
                }
    return None


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            far = abs(value) >= 1e21 or 0 < abs(value) < 1e-6
            return _exponent(value) if far and abs(value) != float("inf") else format_number(value)
        case bytes():
            return base64.b64encode(value).decode()
        case list() | dict():
            return json.dumps(
                value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=_text
            )
    return "" if value is None else str(value)


def _exponent(value: float) -> str:
    """As JavaScript: `1e-7`, not `1e-07`."""
    digits, _, power = exponent(value).partition("e")
    return f"{digits}e{power[0]}{power[1:].lstrip('0')}"
