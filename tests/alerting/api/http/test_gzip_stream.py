"""Compressed pieces: one stream, whatever they were cut into."""

import gzip

import pytest

from tocsin_alerting.api.http.gzip_stream import gzip_stream


@pytest.mark.parametrize("pieces", [[b""], [b"a"], [b"x" * 300_000, b"yz" * 100_000, b"end"]])
def test_the_pieces_are_one_gzip_stream(pieces: list[bytes]) -> None:
    assert gzip.decompress(b"".join(gzip_stream(iter(pieces)))) == b"".join(pieces)


def test_a_piece_comes_out_before_the_next_is_asked_for() -> None:
    """Else a large answer would gather in memory."""
    asked = []

    def made() -> object:
        for number in range(100):
            asked.append(number)
            yield bytes((number * at * at) % 251 for at in range(20_000))

    packed = gzip_stream(made())  # type: ignore[arg-type]
    next(packed)
    assert len(asked) < 10
