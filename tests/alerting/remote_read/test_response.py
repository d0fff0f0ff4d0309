"""Chunks that are taken apart again as Prometheus does, checksums, and messages that are long."""

import math
import struct

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.remote_read import crc32c as by_bits
from support.remote_read import read_answer, xor_samples
from tocsin_alerting.promql.eval.limits import Budget, QueryLimitExceeded
from tocsin_alerting.remote_read.crc32c import crc32c
from tocsin_alerting.remote_read.response import chunk_stream, samples_message
from tocsin_alerting.remote_read.samples import ReadSamples, read_samples
from tocsin_alerting.remote_read.xor_chunk import xor_chunk
from tocsin_alerting.remote_write.snappy import compress
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.snapshot import labels

STREAM = "application/x-streamed-protobuf"
NOW = 1_790_000_000_000
bits = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from((0, -(2**63), 1, 0x7FF0000000000002, 0x3FF0000000000000)),
)
steps = st.one_of(
    st.integers(1, 3), st.sampled_from((8191, 8192, 8193, 16384, 65536, 65537, 524288, 524289)),
    st.integers(1, 2**40),
)  # fmt: skip


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(-(2**50), 2**50), st.lists(st.tuples(steps, bits), min_size=1, max_size=130))
def test_a_chunk_is_read_as_it_was_written(first: int, rest: list[tuple[int, int]]) -> None:
    times, words = [], []
    for step, word in rest:
        first += step
        times.append(first)
        words.append(word)
    assert xor_samples(xor_chunk(times, words)) == list(zip(times, words, strict=True))


def test_a_chunk_of_equal_steps_and_values_takes_two_bits_a_sample() -> None:
    word = struct.unpack("<q", struct.pack("<d", 1.5))[0]
    chunk = xor_chunk(range(NOW, NOW + 120_000, 1000), [word] * 120)
    assert len(chunk) == 2 + 6 + 8 + math.ceil((1 + 16 + 2 * 118) / 8)


def test_the_checksum_is_castagnolis() -> None:
    """Of RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE306_9283
    assert crc32c(bytes(32)) == 0x8A91_36AA
    assert crc32c(bytes(range(32))) == 0x46DD_794E
    for size in (1023, 1024, 1025, 5000):
        data = np.random.default_rng(size).bytes(size)
        assert crc32c(data) == by_bits(data)


def _read(store: Store, first: int, last: int, external: dict[str, str]) -> ReadSamples:
    return read_samples(store.select(((),), first, last), first, last, external, Budget())


def test_long_series_are_cut_into_frames_and_none_is_torn() -> None:
    random = np.random.default_rng(4)
    store = Store(retention_ms=10**9)
    first = NOW - 999 * 1000
    for name in ("a", "b"):
        own = labels(__name__=name, job="j", instance="i")
        store.write((own, first + 1000 * n, v) for n, v in enumerate(random.random(1000).tolist()))
    read = _read(store, first + 10_000, NOW, {"zone": "z", "job": "other"})
    pieces = list(chunk_stream([read, read], 4096))
    answer = read_answer(STREAM, None, b"".join(pieces))
    wanted = [labels(__name__=name, job="j", instance="i", zone="z") for name in ("a", "b")]
    assert [list(one) for one in answer.queries] == [wanted, wanted]
    assert {len(samples) for one in answer.queries for samples in one.values()} == {990}
    assert len(answer.chunks) == 2 * 2 * 9
    message = read_answer("x", "snappy", samples_message([read, read], Budget()))
    assert message.queries == answer.queries


def test_samples_at_odd_times_and_a_message_that_would_be_too_long() -> None:
    store = Store(retention_ms=2**50)
    own = labels(__name__="m", job="j", instance="i")
    times = [1, 2**35 - 1, 2**35, 2**42 - 1, 2**42]
    for at in times:
        store.write([(own, at, at / 3)])
    read = _read(store, 0, 2**43, {})
    (found,) = read_answer("x", "snappy", samples_message([read], Budget())).queries
    assert [at for at, _ in found[own]] == times
    with pytest.raises(QueryLimitExceeded, match="accept STREAMED_XOR_CHUNKS"):
        samples_message([read], Budget(), 60)


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 700_000])
def test_what_is_packed_in_pieces_is_one_block(size: int) -> None:
    data = (np.arange(size) // 700 % 251).astype(np.uint8).tobytes()
    body = compress([data[:1000], data[1000:500_000], b"", data[500_000:]])
    assert bytes(cramjam.snappy.decompress_raw(body)) == data
    assert len(body) < size / 8 + 20


def test_what_is_read_is_counted() -> None:
    store = Store()
    store.write((labels(__name__="m", s=str(n)), NOW, 1.0) for n in range(20))
    with pytest.raises(QueryLimitExceeded):
        read_samples(store.select(((),), 0, NOW), 0, NOW, {}, Budget(max_samples=19))
