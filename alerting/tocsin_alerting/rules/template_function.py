"""The functions that Prometheus adds to Go's templates (template/template.go)."""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus, urlsplit

import re2
from goduration.go import Duration
from gotime.go import Time

from tocsin_alerting.promql.durations import parse_duration
from tocsin_alerting.rules import humanize
from tocsin_alerting.rules.scope import SCOPE, text_map

_GROUP = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")
_WORD = re.compile(r"[^\W_][\w']*")


class QueriedSample:
    """One element of what `query` returns: `.Labels` and `.Value`, as in Go."""

    def __init__(self, labels: Mapping[str, str], value: float) -> None:
        self.labels, self.value = labels, value

    def __gotemplate_lookup__(self, name: str) -> object:
        if name == "Labels":
            return text_map(self.labels)
        if name == "Value":
            return self.value
        raise AttributeError(name)


class GoObject:
    """A value whose methods have Go's names: `.Year` is `year()`, `.Format "2006"` formats."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __gotemplate_lookup__(self, name: str) -> object:
        return getattr(self._value, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())

    def __str__(self) -> str:
        return str(self._value)

    def __go_format_value__(self, kind: str, mode: str, *, nested: bool) -> str:
        return str(self)


async def query(text: str) -> list[QueriedSample]:
    rows = await SCOPE.get().query(text)
    return [QueriedSample(dict(labels), value) for labels, value in rows]


def first(samples: Any) -> QueriedSample:
    for sample in samples:
        return _sample(sample)
    raise ValueError("first() called on vector with no elements")


def label(name: str, sample: Any) -> str:
    return _sample(sample).labels.get(name, "")


def value(sample: Any) -> float:
    return _sample(sample).value


def strvalue(sample: Any) -> str:
    return _sample(sample).labels.get("__value__", "")


def sort_by_label(name: str, samples: Any) -> list[QueriedSample]:
    return sorted(map(_sample, samples), key=lambda sample: sample.labels.get(name, ""))


def args(*values: object) -> dict[str, object]:
    return {f"arg{number}": value for number, value in enumerate(values)}


def re_replace_all(pattern: str, replacement: str, text: str) -> str:
    """Go's ReplaceAllString: `$1` and `${name}`; an unknown group is the empty text."""
    compiled = _regex(pattern)
    return str(compiled.sub(lambda found: _expanded(replacement, found), text))


def match(pattern: str, text: str) -> bool:
    """Anywhere in the text."""
    return _regex(pattern).search(text) is not None


def title(text: str) -> str:
    return _WORD.sub(lambda word: word[0][:1].upper() + word[0][1:], text)


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
        ipaddress.ip_address(host)
    except ValueError:
        host = host.split(".", 1)[0]
    return f"{host}:{port}" if port is not None else host


def to_time(seconds: object) -> GoObject:
    return GoObject(Time.from_unix_milliseconds(humanize.to_millis(humanize.to_float(seconds))))


def to_duration(seconds: object) -> GoObject:
    number = humanize.to_float(seconds)
    if not math.isfinite(number):
        raise humanize.NotFinite
    return GoObject(Duration.from_nanoseconds(int(number * 1e9)))


def parse_duration_seconds(text: str) -> float:
    sign, length = (-1, text[1:]) if text.startswith("-") else (1, text)
    return sign * parse_duration(length) / 1000


def _numeric(format_one: Callable[[float], str]) -> Callable[[object], str]:
    def formatted(number: object) -> str:
        return format_one(humanize.to_float(number))

    return formatted


def _sample(found: Any) -> QueriedSample:
    if not isinstance(found, QueriedSample):
        raise ValueError(f"wrong type for value; expected *template.sample; got {found!r}")
    return found


def _regex(pattern: str) -> Any:
    try:
        return re2.compile(pattern, _re2_options())
    except re2.error as error:
        raise ValueError(f"regexp: Compile(`{pattern}`): {error}") from None


def _re2_options() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _expanded(replacement: str, found: Any) -> str:
    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return found[int(name) if name.isdigit() else name] or ""
        except (IndexError, KeyError, re2.error):
            return ""

    return _GROUP.sub(group, replacement)


def _split_host_port(text: str) -> tuple[str, str | None]:
    """Go's net.SplitHostPort; what it refuses is all host."""
    found = re.fullmatch(r"\[([^\[\]]*)\]:([^:\[\]]*)|([^:\[\]]*):([^:\[\]]*)", text)
    if found is None:
        return text, None
    if found[1] is not None:
        return found[1], found[2]
    return found[3], found[4]


def _nothing(*_: object) -> str:
    return ""


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "query": query,
    "first": first,
    "label": label,
    "value": value,
    "strvalue": strvalue,
    "sortByLabel": sort_by_label,
    "args": args,
    "reReplaceAll": re_replace_all,
    "match": match,
    "safeHtml": str,
    "title": title,
    "toUpper": str.upper,
    "toLower": str.lower,
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
    "now": lambda: SCOPE.get().now_ms / 1000,
    "pathPrefix": lambda: urlsplit(SCOPE.get().external_url).path,
    "externalURL": lambda: SCOPE.get().external_url,
    "parseDuration": parse_duration_seconds,
    "urlQueryEscape": quote_plus,
    "tmpl": _nothing,
}
