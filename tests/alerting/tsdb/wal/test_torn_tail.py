"""What follows the last whole record of a log: torn off, or damaged with more behind it."""

import os
import random
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.tsdb.wal.codec import FRAME
from tocsin_alerting.tsdb.wal.torn_tail import is_torn

KINDS = b"OCSMPB"
payloads = st.lists(
    st.builds(lambda kind, rest: kind + rest, st.sampled_from([b"O", b"C", b"B"]), st.binary()),
    min_size=2,
    max_size=6,
)


def framed(payload: bytes) -> bytes:
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def said(data: bytes) -> bool:
    """Of a file that begins with a record that is not whole."""
    return is_torn(BytesIO(data), FRAME.size, FRAME.unpack_from(data)[0], KINDS)


@given(payloads, st.integers(0, 50), st.data())
def test_what_a_kill_or_a_power_cut_leaves_is_torn(
    some: list[bytes], zeros: int, data: st.DataObject
) -> None:
    last = framed(some[-1])
    cut = data.draw(st.integers(FRAME.size, len(last) - 1))
    assert said(last[:cut] + bytes(zeros))


@given(payloads, st.data())
def test_a_flipped_bit_before_the_last_record_is_no_tear(
    some: list[bytes], data: st.DataObject
) -> None:
    first = bytearray(framed(some[0]))
    bit = data.draw(st.integers(0, 8 * len(first) - 1))
    first[bit // 8] ^= 1 << bit % 8
    assert not said(bytes(first) + b"".join(map(framed, some[1:])))


@pytest.mark.parametrize("before", [0, 5, (1 << 20) - 8, (1 << 20) - 1, (1 << 20) + 3, 3 << 20])
def test_a_record_is_found_wherever_it_begins(before: int) -> None:
    beyond = FRAME.pack(2**32 - 1, 1)
    for filler in (b"\0", b"C", b"x"):
        data = beyond + filler * before
        assert said(data)
        assert not said(data + framed(b"Cells of a record"))


def test_a_large_record_of_random_numbers_that_a_kill_tore_is_torn() -> None:
    """Among 8 MB of them a few hundred bytes look like the beginning of a record."""
    payload = b"C" + random.Random(1).randbytes(8_000_000)
    assert said(framed(payload)[:-1000])


def test_what_looks_like_a_record_again_and_again_is_looked_at_for_so_long_only() -> None:
    """A file that somebody made so that each byte begins a record of all that follows."""
    one = FRAME.pack(1 << 20, 7) + b"C"
    assert not said(FRAME.pack(2**32 - 1, 1) + one * 2500 + bytes(1 << 20) + b"C" * (1 << 20))


def test_a_damaged_record_before_one_that_a_kill_tore_is_damaged() -> None:
    damaged = bytearray(framed(b"Cells of a record"))
    damaged[-1] ^= 1
    assert said(bytes(damaged)) and said(bytes(damaged) + bytes(20))
    assert not said(bytes(damaged) + framed(b"Cells of the next")[:-1])


@pytest.mark.parametrize("rest", [b"", framed(b"Cells behind a hole")])
def test_a_hole_of_gigabytes_is_not_read(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(bytes(FRAME.size))  # a block of zeros, and no hole
    os.truncate(path, 1 << 40)
    with path.open("ab") as file:
        file.write(rest)
    with path.open("rb") as file:
        assert is_torn(file, FRAME.size, 0, KINDS) == (not rest)
        file.seek(0)
        assert file.read(20) == bytes(20)
