"""What a label's or annotation's template can see while it is expanded."""

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from tocsin_alerting.strconv import format_number
from tocsin_exporter.series import Labels

QueryRows = Sequence[tuple[Labels, float]]
TEXT_CPU_SECONDS = 0.5  # one text's own work; the event loop turns between its queries alone
RULE_CPU_SECONDS = 10.0  # that of all alerts of a rule in one evaluation
TEXT_WAIT_SECONDS = (
    2.0  # one text's waiting for its queries; after one that is too long, none waits
)
RULE_WAIT_SECONDS = (
    5.0  # the waiting of all alerts of a rule in one evaluation: the page is late by it
)
MAX_QUERIES = 100  # of one text
MAX_TEXT = 100_000  # characters, of a template's text and of all that it is made from
TOO_LONG = f"the text has more than {MAX_TEXT:,} characters"
_ROOT_TYPE = (
    "struct { Labels map[string]string; ExternalLabels map[string]string;"
    " ExternalURL string; Value float64 }"
)


async def no_query(text: str) -> QueryRows:
    """For texts that are expanded where there is nothing to ask."""
    raise ValueError(f"no query can be run here: {text}")


class TemplateTimeout(ValueError):
    """A text took too long; the next time it may be done in time."""


class TemplateBudget:
    """What the texts of one rule take in one evaluation, each and all of them.

    Work is counted by `cpu`, the seconds of work by this thread: a busy machine spoils no text.
    Waiting for the answers of queries is counted apart. Who asks in vain is not waited for again:
    the disk hangs, and the alerts are to go out.
    """

    def __init__(self, cpu: Callable[[], float] = time.thread_time) -> None:
        self.exceeded = False  # by the last text
        self._cpu = cpu
        self._began = self._elsewhere = self._before = 0.0
        self._text_wait_seconds, self._wait_seconds = 0.0, RULE_WAIT_SECONDS  # what is left
        self._queries = 0

    @contextmanager
    def text(self) -> Iterator[None]:
        """Around the expansion of one text."""
        self._began, self._elsewhere = self._cpu(), 0.0
        self._text_wait_seconds = min(TEXT_WAIT_SECONDS, self._wait_seconds)
        self._queries, self.exceeded = 0, False
        try:
            yield
        finally:
            self._before += self._worked

    def check(self) -> None:
        """Raises OutOfTime; called by each function of a template."""
        if self._worked > TEXT_CPU_SECONDS or self._before + self._worked > RULE_CPU_SECONDS:
            self._refuse("the template takes too long")

    async def query(self, ask: Callable[[], Awaitable[QueryRows]]) -> QueryRows:
        """The answer. Raises OutOfTime for one query too many, or too long a wait."""
        import asyncio  # which a check of rules need not load

        self._queries += 1
        if self._text_wait_seconds <= 0:
            self._refuse("the queries of the template take too long")
        clock = asyncio.get_running_loop().time
        began, cpu = clock(), self._cpu()
        try:
            async with asyncio.timeout(self._text_wait_seconds):
                await asyncio.sleep(0)  # an answer that is there at once would give nobody a turn
                rows = await ask()
        except TimeoutError:
            self._wait_seconds = 0.0
            self._refuse("the queries of the template take too long")
        finally:
            self._text_wait_seconds -= clock() - began
            self._wait_seconds -= clock() - began
            self._elsewhere += self._cpu() - cpu
        if self._queries > MAX_QUERIES:
            self._refuse(f"the template asks more than {MAX_QUERIES} queries")
        return rows

    @property
    def _worked(self) -> float:
        return self._cpu() - self._began - self._elsewhere

    def _refuse(self, why: str) -> NoReturn:
        self.exceeded = True
        raise TemplateTimeout(why)


@dataclass(frozen=True, slots=True)
class TemplateData:
    """What a template can see. `labels` include `__name__`; `now_ms` is the evaluation's time."""

    labels: Mapping[str, str]
    value: float
    now_ms: int = 0
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""
    query: Callable[[str], Awaitable[QueryRows]] = no_query
    spending: TemplateBudget = field(default_factory=TemplateBudget)


CURRENT_DATA: ContextVar[TemplateData] = ContextVar("scope")


class TemplateRoot:
    """The dot of a template: these four fields; gotpl alone would print another as `<no value>`."""

    def __init__(self, scope: TemplateData) -> None:
        self._fields = {
            "Labels": text_map(scope.labels),
            "ExternalLabels": text_map(scope.external_labels),
            "ExternalURL": GoText(scope.external_url),
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


class GoInteger(int):
    """An int, which has none."""

    def __gotemplate_lookup__(self, name: str) -> object:
        raise no_field(name, "int")


class Stringer:
    """A value of a named type of Go which has a text of its own: a time, a month, a duration."""

    go_type = ""

    def __go_format_value__(self, kind: str, mode: str, *, nested: bool) -> str:
        return self.go_type if kind == "type" else str(self)

    def go_string(self) -> str | None:
        """What `%#v` prints; None where that is its number."""
        return None


GO_TYPES = {
    **dict.fromkeys(("str", "GoText"), "string"),
    **dict.fromkeys(("int", "GoInteger"), "int"),
    **dict.fromkeys(("float", "GoNumber"), "float64"),
    **dict.fromkeys(("NoneType", "_UntypedNil"), "nil"),
    "bytes": "[]uint8",
    "TypedMap": "map[string]string",
    "dict": "map[string]interface {}",
    "list": "template.queryResult",
    "QueriedSample": "*template.sample",
    "GoTime": "*time.Time",
    "GoDuration": "time.Duration",
}
"""What Go calls the values that a template can have, by the names of their classes here."""


def go_type(value: object) -> str:
    """What Go calls the type of a template's value."""
    formatted = getattr(value, "__go_format_value__", None)
    if formatted is not None:
        return str(formatted("type", "go", nested=False))
    return GO_TYPES.get(type(value).__name__, type(value).__name__)


def check_length(length: int) -> None:
    """Raises ValueError for a text that is too long."""
    if length > MAX_TEXT:
        raise ValueError(TOO_LONG)


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
