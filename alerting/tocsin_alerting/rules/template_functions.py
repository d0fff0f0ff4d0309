"""The functions that Prometheus adds to Go's templates (template/template.go)."""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial, wraps
from typing import Any
from urllib.parse import quote_plus, urlsplit

import re2
from goduration.go import Duration
from gotime.go import UTC, Time
from gotpl.runtime.values import INVALID, UNTYPED_NIL

from tocsin_alerting.rules import humanize
from tocsin_alerting.rules.go_time import GoDuration, GoTime
from tocsin_alerting.rules.printf import NotPlain, sprintf
from tocsin_alerting.rules.template_data import (
    CURRENT_DATA,
    MAX_TEXT,
    TOO_LONG,
    GoNumber,
    check_length,
    go_number,
    go_text,
    go_type,
    no_field,
    text_map,
)
from tocsin_alerting.strconv import quote
from tocsin_alerting.time_format import parse_duration

_GROUP = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")
# RE2's words, and those of Go's regexp for the same.
_REGEX_ERRORS = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "bad repetition operator": "invalid nested repetition operator",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid named capture group": "invalid named capture",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
}


class QueriedSample:
    """One element of what `query` returns: `.Labels` and `.Value`, as in Go."""

    def __init__(self, labels: Mapping[str, str], value: float) -> None:
        self.labels, self.value = labels, value

    def __gotemplate_lookup__(self, name: str) -> object:
        if name == "Labels":
            return text_map(self.labels)
        if name == "Value":
            return GoNumber(self.value)
        raise no_field(name, "*template.sample")

    def __str__(self) -> str:
        return f"{{{go_text(self.labels)} {go_number(self.value)}}}"

    def __go_format_value__(self, kind: str, mode: str, *, nested: bool) -> str:
        return "*template.sample" if kind == "type" else f"&{self}"


async def query(text: str) -> list[QueriedSample]:
    scope = CURRENT_DATA.get()
    rows = await scope.spending.query(partial(scope.query, text))
    return [QueriedSample(dict(labels), value) for labels, value in rows]


def first(samples: Any) -> QueriedSample:
    for sample in _samples(samples):
        return sample
    raise ValueError("first() called on vector with no elements")


def label(name: str, sample: Any) -> str:
    return _sample(sample).labels.get(name, "")


def value(sample: Any) -> float:
    return _sample(sample).value


def strvalue(sample: Any) -> str:
    return _sample(sample).labels.get("__value__", "")


def sort_by_label(name: str, samples: Any) -> list[QueriedSample]:
    return sorted(_samples(samples), key=lambda sample: sample.labels.get(name, ""))


def index(item: Any, *keys: Any) -> Any:
    """Go's own: of a map, the zero value where a key is not there."""
    for key in keys:
        if isinstance(item, Mapping):
            if not isinstance(key, str):
                raise ValueError(f"value has type {go_type(key)}; should be string")
            item = item[key] if key in item else getattr(item, "zero", INVALID)
        elif isinstance(item, list | str):
            item = _element(item, key)
        else:
            raise ValueError(f"can't index item of type {go_type(item)}")
    return item


def _element(item: Sequence[Any], key: Any) -> Any:
    """Of a text, the byte."""
    if not isinstance(key, int) or isinstance(key, bool):
        raise ValueError(f"cannot index slice/array with type {go_type(key)}")
    elements = item.encode() if isinstance(item, str) else item
    if not 0 <= key < len(elements):
        raise ValueError(f"index out of range: {key}")
    return elements[key]


def args(*values: object) -> dict[str, object]:
    return {f"arg{number}": value for number, value in enumerate(values)}


def re_replace_all(pattern: str, replacement: str, text: str) -> str:
    """Go's ReplaceAllString: `$1` and `${name}`; an unknown group is the empty text."""
    try:
        compiled = _regex(pattern)
    except ValueError as error:
        raise ValueError(f"regexp: Compile({_backquoted(pattern)}): {error}") from None
    written = 0

    def replaced(match: Any) -> str:
        nonlocal written
        text = _expanded(replacement, match)
        written += len(text)
        check_length(written)
        return text

    return str(compiled.sub(replaced, text))


def match(pattern: str, text: str) -> bool:
    """Anywhere in the text."""
    return _regex(pattern).search(text) is not None


def title(text: str) -> str:
    """Go's strings.Title: one character for one, so that a ligature stays."""
    before, titled = " ", []
    for char in text:
        titled.append(_single(char, str.title) if _separates(before) else char)
        before = char
    return "".join(titled)


def _separates(char: str) -> bool:
    if char.isascii():
        return not (char.isalnum() or char == "_")
    return char.isspace()


def _single(char: str, change: Callable[[str], str]) -> str:
    changed = change(char)
    return changed if len(changed) == 1 else char


def upper(text: str) -> str:
    return "".join(_single(char, str.upper) for char in text)


def lower(text: str) -> str:
    return "".join(char.lower()[:1] for char in text)


def graph_link(expression: str) -> str:
    return f"/graph?g0.expr={quote_plus(expression)}&g0.tab=0"


def table_link(expression: str) -> str:
    return f"/graph?g0.expr={quote_plus(expression)}&g0.tab=1"


def strip_port(host_port: str) -> str:
    return _split_host_port(host_port)[0]


def strip_domain(host_port: str) -> str:
    """The first part of a name; an address stays whole, a port stays."""
    host, port = _split_host_port(host_port)
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        host = host.split(".", 1)[0]
    else:
        return host_port
    bracketed = f"[{host}]" if ":" in host else host
    return f"{bracketed}:{port}" if port else host


def to_time(seconds: object) -> GoTime:
    """In UTC, wherever this runs."""
    millis = humanize.to_millis(humanize.to_float(seconds))
    return GoTime(Time.from_unix_milliseconds(millis, location=UTC), pointer=True)


def to_duration(seconds: object) -> GoDuration:
    number = humanize.to_float(seconds)
    if not math.isfinite(number):
        raise humanize.NotFinite
    return GoDuration(Duration.from_nanoseconds(int(number * 1e9)).nanoseconds)


def parse_duration_seconds(text: str) -> float:
    sign, length = (-1, text[1:]) if text.startswith("-") else (1, text)
    return sign * parse_duration(length) / 1000


def _numeric(format_one: Callable[[float], str]) -> Callable[[object], str]:
    def formatted(number: object) -> str:
        return format_one(humanize.to_float(number))

    return formatted


def _sample(value: Any) -> QueriedSample:
    if not isinstance(value, QueriedSample):
        raise ValueError(_wrong_type("*template.sample", value))
    return value


def _samples(value: Any) -> list[QueriedSample]:
    """Go's nil is a vector without elements."""
    if value is None or value is UNTYPED_NIL:
        return []
    if not isinstance(value, list):
        raise ValueError(_wrong_type("template.queryResult", value))
    return [_sample(sample) for sample in value]


def _wrong_type(expected: str, value: object) -> str:
    return f"wrong type for value; expected {expected}; got {go_type(value)}"


def _regex(pattern: str) -> Any:
    try:
        return re2.compile(pattern, _re2_options())
    except re2.error as error:
        raise ValueError(f"error parsing regexp: {_in_go_words(error)}") from None


def _in_go_words(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    if text.startswith("trailing \\"):
        return "trailing backslash at end of expression: ``"
    what, _, where = text.partition(": ")
    return f"{_REGEX_ERRORS.get(what, what)}: `{where}`"


def _backquoted(text: str) -> str:
    return f"`{text}`" if "`" not in text else quote(text)


def _re2_options() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _expanded(replacement: str, match: Any) -> str:
    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except (IndexError, KeyError, re2.error):
            return ""

    return _GROUP.sub(group, replacement)


def _split_host_port(text: str) -> tuple[str, str | None]:
    """Go's net.SplitHostPort; what it refuses is all host."""
    match = re.fullmatch(r"\[([^\[\]]*)\]:([^:\[\]]*)|([^:\[\]]*):([^:\[\]]*)", text)
    if match is None:
        return text, None
    if match[1] is not None:
        return match[1], match[2]
    return match[3], match[4]


def safe_html(text: str) -> str:
    return text


def url_query_escape(text: str) -> str:
    return quote_plus(text)


def printf(text: str, *values: object) -> object:
    """Go's; of times, durations and samples what gotpl makes of them."""
    plain = [None if value is UNTYPED_NIL else value for value in values]
    try:
        return sprintf(text, plain, MAX_TEXT)
    except NotPlain:
        return _builtin("printf", text, *values)


def _builtin(name: str, *values: object) -> object:
    """What gotpl's own function of this name says of `values`, LONGEST_TEXT of it at most."""
    import gotpl

    source = f"{{{{{name}{''.join(f' (index . {n})' for n in range(len(values)))}}}}}"
    try:
        return _plain(source).render(values)
    except gotpl.BudgetExceededError:
        raise ValueError(TOO_LONG) from None


@lru_cache(maxsize=128)
def _plain(source: str) -> Any:
    import gotpl

    budget = gotpl.ExecutionBudget(max_output_chars=MAX_TEXT)
    return gotpl.Environment(missing_key="zero", budget=budget).from_string(source)


def _bounded(function: Callable[..., object]) -> Callable[..., object]:
    """`function`, which gives no text that is too long, in the time that is left."""
    if function is query:
        return function

    @wraps(function)
    def called(*values: object) -> object:
        CURRENT_DATA.get().spending.check()
        result = function(*values)
        if isinstance(result, str):
            check_length(len(result))
        return result

    return called


_FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "query": query,
    "first": first,
    "label": label,
    "value": value,
    "strvalue": strvalue,
    "sortByLabel": sort_by_label,
    "args": args,
    "reReplaceAll": re_replace_all,
    "match": match,
    "safeHtml": safe_html,
    "title": title,
    "toUpper": upper,
    "toLower": lower,
    "graphLink": graph_link,
    "tableLink": table_link,
    "stripPort": strip_port,
    "stripDomain": strip_domain,
    "humanize": _numeric(humanize.humanize),
    "humanize1024": _numeric(humanize.humanize1024),
    "humanizeDuration": _numeric(humanize.humanize_duration),
    "humanizePercentage": _numeric(humanize.humanize_percentage),
    "humanizeTimestamp": _numeric(humanize.humanize_timestamp),
    "toTime": to_time,
    "toDuration": to_duration,
    "now": lambda: CURRENT_DATA.get().now_ms / 1000,
    "pathPrefix": lambda: urlsplit(CURRENT_DATA.get().external_url).path,
    "externalURL": lambda: CURRENT_DATA.get().external_url,
    "parseDuration": parse_duration_seconds,
    "urlQueryEscape": url_query_escape,
    "printf": printf,
    "index": index,
}

FUNCTIONS = {name: _bounded(function) for name, function in _FUNCTIONS.items()}
# In place of gotpl's own, which set no bound and are faster.
BOUNDED_BUILTINS = {
    name: _bounded(partial(_builtin, name))
    for name in ("print", "println", "html", "js", "urlquery")
}
