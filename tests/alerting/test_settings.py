import pytest
from hypothesis import given, strategies

from tocsin_alerting.settings import duration_ms, number_text, size_bytes, size_text


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0s", 0),
        ("5s", 5_000),
        ("1m30s", 90_000),
        ("250ms", 250),
        ("1y2w3d4h5m6s7ms", 33_019_506_007),
        ("90m", 5_400_000),
    ],
)
def test_durations_as_prometheus_writes_them(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    ["", "5", "-5s", "1.5h", "5s1m", "1m1m", "1 m", "5S", "٥s", "1e3s", "99999y", 5, None, True],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration|longer than"):
        duration_ms(text)


def test_sizes_are_read() -> None:
    assert [size_bytes(one) for one in ("1KiB", "512MiB", "2GiB")] == [2**10, 2**29, 2**31]


@given(strategies.integers(1, 999_999), strategies.sampled_from(["KiB", "MiB", "GiB", "TiB"]))
def test_the_text_of_a_size_reads_back(count: int, unit: str) -> None:
    size = size_bytes(f"{count}{unit}")
    assert size_bytes(size_text(size)) == size


@pytest.mark.parametrize("text", ["", "2", "0GiB", "2GB", "-1MiB", "1.5GiB", 2048, None])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="2GiB"):
        size_bytes(text)


NUMBERS = {
    "0": 0.0,
    "0.998": 9.98e-01,
    "42": 42.0,
    "1235": 1234.56,
    "9999": 9999.4,
    "12.35k": 12345.0,
    "10k": 9999.9,
    "-1.5M": -1.5e6,
    "84.2G": 84.2e9,
    "3.2e-05": 3.2e-5,
    "1e+18": 1e18,
    "no number": float("nan"),
    "infinite": float("inf"),
    "-infinite": float("-inf"),
}


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_for_people(text: str) -> None:
    assert number_text(NUMBERS[text]) == text
