"""A ReadRequest of remote read, decoded.

Fields: https://github.com/prometheus/prometheus/blob/main/prompb/remote.proto.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from tocsin_alerting.remote_write.prompb import (
    LENGTH,
    VARINT,
    Field,
    Malformed,
    expect,
    read_fields,
    varint,
)
from tocsin_alerting.tsdb.matchers import InvalidRegex, Matcher, MatchOp

MOST_QUERIES = 100
MOST_MATCHERS = 1_000  # of a query
_OPS = (MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX, MatchOp.NOT_REGEX)


class ResponseType(IntEnum):
    """How samples may be sent: one by one in one message, or as chunks in a stream."""

    SAMPLES = 0
    STREAMED_XOR_CHUNKS = 1


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """Samples of the series that satisfy all matchers, both ends included, in Unix ms."""

    start_ms: int
    end_ms: int
    matchers: tuple[Matcher, ...]

    def without(self, external: Mapping[str, str]) -> "ReadQuery":
        """What it asks of the store, whose series do not have the external labels: a Prometheus
        with the same ones asks for them."""
        kept = tuple(each for each in self.matchers if not _is_external(each, external))
        return replace(self, matchers=kept)


def _is_external(matcher: Matcher, external: Mapping[str, str]) -> bool:
    return matcher.op is MatchOp.EQUAL and external.get(matcher.name) == matcher.value


@dataclass(frozen=True, slots=True)
class ReadRequest:
    queries: Sequence[ReadQuery]
    response_type: ResponseType


def read_request(data: bytes) -> ReadRequest:
    """Raises Malformed."""
    queries: list[ReadQuery] = []
    accepted: list[int] = []
    for part in read_fields(data, 0, len(data)):
        if part[0] == 1:
            expect(part, LENGTH, "a query")
            queries.append(_query(data, part[2], part[3]))
        elif part[0] == 2:
            accepted += _numbers(data, part)
    if len(queries) > MOST_QUERIES:
        raise Malformed(f"more than {MOST_QUERIES} queries in one request")
    return ReadRequest(queries, _response_type(accepted))


def _response_type(accepted: Sequence[int]) -> ResponseType:
    """The first that we know; who says nothing takes samples."""
    known = [ResponseType(number) for number in accepted if number in tuple(ResponseType)]
    if accepted and not known:
        names = ", ".join(each.name for each in ResponseType)
        raise Malformed(f"none of the accepted response types is known here; there are {names}")
    return known[0] if known else ResponseType.SAMPLES


def _numbers(data: bytes, part: Field) -> list[int]:
    """Of a repeated field: one, or many in a row."""
    if part[1] == VARINT:
        return [part[2]]
    expect(part, LENGTH, "the accepted response types")
    numbers, at = list[int](), part[2]
    while at < part[3]:
        number, at = varint(data, at, part[3])
        numbers.append(number)
    return numbers


def _query(data: bytes, begin: int, stop: int) -> ReadQuery:
    times = {1: 0, 2: 0}
    matchers: list[Matcher] = []
    for part in read_fields(data, begin, stop):
        if part[0] in times:
            expect(part, VARINT, "a time")
            times[part[0]] = part[2] - (part[2] >> 63 << 64)
        elif part[0] == 3:
            expect(part, LENGTH, "a matcher")
            matchers.append(_matcher(data, part[2], part[3]))
    if len(matchers) > MOST_MATCHERS:
        raise Malformed(f"more than {MOST_MATCHERS} matchers in one query")
    return ReadQuery(times[1], times[2], tuple(matchers))


def _matcher(data: bytes, begin: int, stop: int) -> Matcher:
    kind, texts = 0, {2: "", 3: ""}
    for part in read_fields(data, begin, stop):
        if part[0] == 1:
            expect(part, VARINT, "the type of a matcher")
            kind = part[2]
        elif part[0] in texts:
            expect(part, LENGTH, "the text of a matcher")
            texts[part[0]] = _text(data, part)
    if kind >= len(_OPS):
        raise Malformed(f"type {kind} of a matcher is not known; 0 to 3 are")
    try:
        return Matcher(texts[2], _OPS[kind], texts[3])
    except InvalidRegex as error:
        raise Malformed(f"a matcher of {texts[2]}: {error}") from None


def _text(data: bytes, part: Field) -> str:
    try:
        return data[part[2] : part[3]].decode()
    except UnicodeDecodeError:
        raise Malformed(f"the text at byte {part[2]} is not UTF-8") from None
