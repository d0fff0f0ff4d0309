"""A request that our own server reads, and answers written by hand, zeros left out or not."""

import struct

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.remote_write import _field, _varint
from tocsin_alerting.remote_read.asking import read_answer, write_request
from tocsin_alerting.remote_read.request import read_request
from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge
from tocsin_alerting.tsdb.matchers import Matcher, MatchOp
from tocsin_alerting.tsdb.values import STALE_BITS

STALE_MARKER = struct.pack("<q", STALE_BITS)
USUAL = st.integers(1 << 35, (1 << 42) - 1)
TIMES = st.one_of(USUAL, USUAL, USUAL, st.integers(-(1 << 40), 1 << 50))
NUMBERS = st.one_of(st.floats(allow_nan=False).map(lambda x: struct.pack("<d", x)),
    st.just(bytes(8)), st.just(STALE_MARKER))  # fmt: skip
SAMPLES = st.lists(st.tuples(TIMES, NUMBERS), max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)


def sample(at_ms: int, value: bytes, leave_out: bool) -> bytes:
    number = b"" if leave_out and value == bytes(8) else b"\x09" + value
    return _field(2, number + b"\x10" + _varint(at_ms & (1 << 64) - 1))


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(TEXTS, st.tuples(TEXTS, SAMPLES), max_size=5), st.booleans())
def test_an_answer_is_read_bit_by_bit(
    series: dict[str, tuple[str, list[tuple[int, bytes]]]], leave_out: bool
) -> None:
    written = b""
    for name, (text, samples) in series.items():
        label = _field(1, _field(1, name.encode()) + _field(2, text.encode()))
        cells = b"".join(sample(at_ms, value, leave_out) for at_ms, value in samples)
        written += _field(1, label + cells)
    body = bytes(cramjam.snappy.compress_raw(_field(1, written) + _field(1, b"")))
    answered = list(read_answer(body, 1 << 20))
    assert [one.labels for one in answered] == [
        ((name, text),) for name, (text, _) in series.items()
    ]
    for one, (_, samples) in zip(answered, series.values(), strict=True):
        assert one.times.tolist() == [at_ms for at_ms, _ in samples]
        bits = np.asarray(one.values, np.float64).view(np.int64).tolist()
        assert bits == [struct.unpack("<q", value)[0] for _, value in samples]


def test_a_request_asks_for_what_was_meant() -> None:
    matchers = tuple(Matcher(f"l{op.name}", op, "a|b") for op in MatchOp)
    others = (Matcher("__name__", MatchOp.EQUAL, "up"),)
    body = write_request((matchers, others), -5, 1_790_000_000_000)
    asked = read_request(bytes(cramjam.snappy.decompress_raw(body)))
    assert [(q.start_ms, q.end_ms) for q in asked.queries] == [(-5, 1_790_000_000_000)] * 2
    said = [[(m.name, m.op, m.value) for m in query.matchers] for query in asked.queries]
    assert said == [[(m.name, m.op, m.value) for m in one] for one in (matchers, others)]


def test_what_is_no_answer_is_refused() -> None:
    for body in (b"", b"<html>", bytes(cramjam.snappy.compress_raw(b"\x0a\x7f"))):
        with pytest.raises(Malformed):
            list(read_answer(body, 1 << 20))
    with pytest.raises(RequestTooLarge):
        list(read_answer(bytes(cramjam.snappy.compress_raw(bytes(999))), 99))
