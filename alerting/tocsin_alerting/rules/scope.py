"""What a label's or annotation's template can see while it is expanded."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

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
            "Value": scope.value,
        }

    def __gotemplate_lookup__(self, name: str) -> object:
        if name not in self._fields:
            import gotpl

            raise gotpl.TemplateExecutionError(f"can't evaluate field {name} in type {_ROOT_TYPE}")
        return self._fields[name]


def text_map(values: Mapping[str, str]) -> Any:
    """A map[string]string: a missing key is the empty text."""
    import gotpl

    return gotpl.TypedMap(dict(values), "", "string", "string")
