"""Prometheus's hash of labels; the numbers are those of the reference implementation of XXH64."""

import pytest

from tocsin_alerting.promql.eval.label_hash import label_hash, xxh64


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"abc", 0x44BC2CF5AD770999),
        (b"hello\xffworld\xff", 0x347C8EE7A9E29708),
        (bytes(range(101)), 0xE99038495F85381E),
    ],
)
def test_it_is_xxh64(data: bytes, expected: int) -> None:
    assert xxh64(data) == expected


def test_names_and_values_follow_their_lengths() -> None:
    assert label_hash(()) == xxh64(b"")
    assert label_hash((("a", "é"), ("job", "x"))) == xxh64(b"\x01a\x02\xc3\xa9\x03job\x01x")
    long = "x" * 300
    assert label_hash((("a", long),)) == xxh64(b"\x01a\xff\x2c\x01\x00" + long.encode())
