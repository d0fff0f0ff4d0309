"""What a label's or annotation's template can see while it is expanded."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tocsin_alerting.promql.numbers import format_number
from tocsin_exporter.snapshot import Labels

Rows = Sequence[tuple[Labels, float]]
_ROOT_TYPE = (
    "struct { Labels map[string]string; ExternalLabels map[string]string;"
    " ExternalURL string; Value float64 }"
)


async def no_query(text: str) -> Rows:
    """For texts that are expanded where there is nothing to ask."""
    raise ValueError(f"no query can be run here: {text}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a template can see. `labels` include `__name__`; `now_ms` is the evaluation's time."""

    labels: Mapping[str, str]
    value: float
    now_ms: int = 0
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""
    query: Callable[[str], Awaitable[Rows]] = no_query


SCOPE: ContextVar[Scope] = ContextVar("scope")


class Root:
    """The dot of a template: these four fields; gotpl alone would print another as `<no value>`."""

    def __init__(self, scope: Scope) -> None:
        self._fields = {
            "Labels": text_map(scope.labels),
            "ExternalLabels": text_map(scope.external_labels),
            "ExternalURL": scope.external_url,
            "Value": GoNumber(scope.value),
        }

    def __str__(self) -> str:
        return "{" + " ".join(map(go_text, self._fields.values())) + "}"

    def __go_format_value__(self, kind: str, mode: str, *, nested: bool) -> str:
        return _ROOT_TYPE if kind == "type" else str(self)

    def __gotemplate_lookup__(self, name: str) -> object:
        if name not in self._fields:
            raise no_field(name, _ROOT_TYPE)
        return self._fields[name]


def text_map(values: Mapping[str, str]) -> Any:
    """A map[string]string: a missing key is the empty text."""
    import gotpl

    texts = {name: GoText(value) for name, value in values.items()}
    return gotpl.TypedMap(texts, GoText(""), "string", "string")


def no_field(name: str, kind: str) -> Exception:
    """Go's error for a field of a value that has none of that name."""
    import gotpl

    return gotpl.TemplateExecutionError(f"can't evaluate field {name} in type {kind}")


class GoText(str):
    """A string, which has no fields: gotpl alone would give `<no value>` for them."""

    def __gotemplate_lookup__(self, name: str) -> object:
        raise no_field(name, "string")


class GoNumber(float):
    """A float64, which has no fields either."""

    def __gotemplate_lookup__(self, name: str) -> object:
        raise no_field(name, "float64")


def go_text(value: object) -> str:
    """What Go's `%v` prints of a number, a text or a map of texts."""
    if isinstance(value, float):
        return go_number(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{value[key]}" for key in sorted(value)) + "]"
    return str(value)


def go_number(value: float) -> str:
    if value == 0 or not math.isfinite(value) or 1e-4 <= abs(value) < 1e21:
        return format_number(value)
    mantissa, _, exponent = f"{Decimal(repr(float(value))):e}".partition("e")
    return f"{mantissa}e{int(exponent):+03d}"
