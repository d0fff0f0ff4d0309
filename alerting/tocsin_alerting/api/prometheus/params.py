"""What a request asks for: its parameters, read as Prometheus reads them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl

from starlette.requests import Request

from tocsin_alerting.api.http.body import read_body
from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.http.times import MAX_EXACT_S, duration_ms, time_ms
from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser.parser import parse_selector
from tocsin_alerting.strconv import quote
from tocsin_alerting.tsdb.matchers import Matcher
from tocsin_alerting.tsdb.series_index import MatcherSets

Fields = Mapping[str, list[str]]
RunOffLoop = Callable[[Callable[[], Fields]], Awaitable[Fields]]
EVERYTHING: MatcherSets = ((),)
TRUNCATED = "results truncated due to limit"
_MAX_FORM_BYTES = 1 << 20  # of a form; a query of this length is nobody's
_INLINE_FORM_CHARACTERS = 4096  # characters of a form that is read on the loop
_MAX_FIELDS = 5_000
_MAX_MATCHERS = 20_000
_MAX_CACHED_CHARACTERS = 4096  # characters
_parse_cached = lru_cache(maxsize=512)(parse_selector)
_TOO_MANY_FIELDS = f"more than {_MAX_FIELDS:,} parameters; ask for fewer series at once"
_TOO_MANY_MATCHERS = (
    f'invalid parameter "match[]": more than {_MAX_MATCHERS:,} matchers; ask for fewer at once'
)
_MATCHES_ALL = 'invalid parameter "match[]": match[] must contain at least one non-empty matcher'


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of one request: of the query string, and of the form of a POST, which wins.
    `accept` is what its client can read."""

    values: Fields
    path: Mapping[str, str]
    accept: str = ""

    def get(self, name: str) -> str:
        """The last value; nothing when it is missing."""
        return self.values.get(name, [""])[-1]

    def get_all(self, name: str) -> list[str]:
        return self.values.get(name, [])

    def time_or(self, name: str, default_ms: int) -> int:
        """A time that may be missing, in Unix milliseconds."""
        text = self.get(name)
        before = f"Invalid time value for '{name}': "
        return time_ms(text, name, before, MAX_EXACT_S) if text else default_ms

    def time(self, name: str) -> int:
        """A time that must be there, in Unix milliseconds."""
        return time_ms(self.get(name), name, "", MAX_EXACT_S)

    def duration(self, name: str) -> int | None:
        """A duration that may be missing, in milliseconds."""
        text = self.get(name)
        return duration_ms(text, name) if text else None

    @property
    def limit(self) -> int:
        """How many elements an answer may have; 0 is no limit."""
        text = self.get("limit")
        if not text:
            return 0
        limit = whole_number(text)
        if limit is None:
            why = f"strconv.Atoi: parsing {quote(text)}: invalid syntax"
            raise ApiError("bad_data", f'invalid parameter "limit": {why}')
        if limit < 0:
            raise ApiError("bad_data", 'invalid parameter "limit": limit must be non-negative')
        return limit

    def count(self, name: str) -> int:
        """A number of elements, -1 when it is missing: as the metadata endpoints word it."""
        text = self.get(name)
        count = whole_number(text) if text else -1
        if count is None:
            raise ApiError("bad_data", f"{name} must be a number")
        return count

    def matcher_sets(self) -> MatcherSets:
        """What `match[]` selects; EVERYTHING without one."""
        sets: dict[tuple[Matcher, ...], None] = {}
        count = 0
        for text in dict.fromkeys(self.get_all("match[]")):
            selected = selector_param(text, "match[]")
            count += sum(map(len, selected))
            if count > _MAX_MATCHERS:
                raise ApiError("bad_data", _TOO_MANY_MATCHERS)
            sets.update(dict.fromkeys(selected))
        if not all(any(not matcher.matches("") for matcher in every) for every in sets):
            raise ApiError("bad_data", _MATCHES_ALL)
        return tuple(sets) or EVERYTHING


def selector_param(text: str, name: str) -> MatcherSets:
    """What a selector in the parameter `name` selects; raises ApiError when it is none."""
    try:
        parsed = _parse_cached if len(text) <= _MAX_CACHED_CHARACTERS else parse_selector
        return parsed(text).matcher_sets
    except ParseError as error:
        raise ApiError("bad_data", f'invalid parameter "{name}": {error}') from None


def whole_number(text: str) -> int | None:
    """None for what Go would not read as an int."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        return None
    return int(text)


async def read_params(request: Request, in_turn: RunOffLoop) -> Params:
    """Raises ApiError for a form that is too long, or has too many fields; `in_turn` does the work
    of reading a long one off the loop."""
    texts = [request.scope["query_string"].decode("latin-1")]
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and kind == "application/x-www-form-urlencoded":
        texts.append((await read_body(request, _MAX_FORM_BYTES)).decode("utf-8", "replace"))
    if sum(text.count("&") + bool(text) for text in texts) > _MAX_FIELDS:
        raise ApiError("bad_data", _TOO_MANY_FIELDS)
    accept = request.headers.get("accept", "")
    if sum(map(len, texts)) <= _INLINE_FORM_CHARACTERS:
        return Params(_fields(texts), request.path_params, accept)
    return Params(await in_turn(lambda: _fields(texts)), request.path_params, accept)


def _fields(texts: Iterable[str]) -> Fields:
    fields: dict[str, list[str]] = {}
    for text in texts:
        for key, value in parse_qsl(text, keep_blank_values=True):
            fields.setdefault(key, []).append(value)
    return fields
