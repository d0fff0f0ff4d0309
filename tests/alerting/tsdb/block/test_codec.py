"""What is encoded comes back bit by bit, and ordinary series take little room."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from support.examples import examples
from tocsin_alerting.tsdb.block.codec import decode, decode_times, encode, encode_times
from tocsin_alerting.tsdb.values import ABSENT_BITS, STALE_BITS

bits = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([ABSENT_BITS, STALE_BITS, 0, -(2**63)]),
    st.floats(-100, 100).map(lambda v: int(np.float64(round(v, 2)).view(np.int64))),
    st.integers(-(10**17), 10**17).map(lambda v: int(np.float64(v).view(np.int64))),
)
shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)


@settings(deadline=None, max_examples=examples(300))
@given(arrays.arrays(np.int64, shapes, elements=bits))
def test_every_bit_comes_back(words: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> None:
    cells = words.view(np.float64)
    assert (decode(encode(cells), *cells.shape).view(np.int64) == words).all()


@settings(deadline=None)
@given(arrays.arrays(np.int64, st.integers(0, 50), elements=st.integers(-(2**62), 2**62)))
def test_times_come_back(times: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    assert (decode_times(encode_times(times), len(times)) == times).all()


@pytest.mark.parametrize(
    ("kind", "most"),
    [("constant", 0.02), ("even counter", 0.02), ("cpu seconds", 1.7), ("request counter", 0.9)],
)
def test_ordinary_series_take_little_room(kind: str, most: float) -> None:
    chance, shape = np.random.default_rng(3), (240, 64)
    cells = {
        "constant": np.full(shape, 0.3),
        "even counter": np.arange(240.0)[:, None] * np.arange(64.0) * 4096,
        "cpu seconds": np.round(np.cumsum(chance.random(shape) * 15, axis=0), 2),
        "request counter": np.cumsum(chance.poisson(20, shape), axis=0).astype(np.float64),
    }[kind]
    assert len(encode(cells)) / cells.size < most


def test_what_was_not_encoded_is_refused() -> None:
    data = encode(np.ones((4, 3)))
    for wrong in (data[:-1], b"\xff" + data[1:], data[:2], b"", data[:3] + b"nonsense"):
        with pytest.raises(ValueError):
            decode(wrong, 4, 3)
    with pytest.raises(ValueError, match="32 bytes"):
        decode_times(encode_times(np.arange(4)), 5)
