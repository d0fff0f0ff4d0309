"""Series that come again: found wherever a request begins and ends, as a walk finds them."""

import time
from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.write_requests import Series, plain
from tocsin_alerting.remote_write.fast_scan import scan
from tocsin_alerting.remote_write.prompb import read_series, series_spans
from tocsin_alerting.remote_write.request_cache import RequestCache

NOW = 1_790_000_000_000
METADATA = b"\x1a\x05\x08\x01\x12\x01m"


def request(names: Sequence[int], turn: int, zeros: Sequence[int] = ()) -> bytes:
    return plain(
        [
            Series([(b"__name__", b"m%d" % one)], [(NOW + turn, 0 if one in zeros else turn + 1)])
            for one in names
        ]
    )


class Known(RequestCache):
    """Layouts with the series that they are made of."""

    def __init__(self, most_bytes: int = 1 << 20) -> None:
        super().__init__(most_bytes)
        self.series: dict[bytes, int] = {}

    def sees(self, data: bytes) -> bool:
        """Whether a request was found, and then as by walking; it is learned when not."""
        found, walked = self.find(data, self.series), scan(data, self.series)
        if found is None:
            self.learn(data, walked)
            for one in (read_series(data, *span, self.series) for span in series_spans(data)):
                assert one.key is not None
                self.series.setdefault(one.key, len(self.series))
            return False
        assert found.refs.tolist() == walked.refs.tolist()
        assert found.stops.tolist() == walked.stops.tolist()
        assert found.zeros.tolist() == walked.zeros.tolist()
        assert walked.others == []
        return True


def learned(*requests: Sequence[int]) -> Known:
    layouts = Known()
    for turn in range(2):
        for one in requests:
            layouts.sees(request(one, turn))
    return layouts


def test_a_request_is_found_from_the_third_time_on() -> None:
    layouts = Known()
    # Its series are new, then it is walked.
    assert [layouts.sees(request(range(3), turn)) for turn in range(5)] == [False] * 2 + [True] * 3


def test_requests_are_found_wherever_they_are_cut() -> None:
    layouts = learned(range(100), range(100, 200))
    for begin in range(0, 200, 7):
        wandering = [one % 200 for one in range(begin, begin + 90)]
        assert layouts.sees(request(wandering, 5 + begin))


def test_a_value_that_becomes_zero_costs_itself_alone() -> None:
    layouts = learned(range(100))
    assert layouts.sees(request(range(100), 9, zeros=[0, 50, 99]))
    assert layouts.sees(request(range(100), 10))


@pytest.mark.parametrize("zeros", [[], range(10)])
def test_another_series_in_the_same_place_is_not_mistaken(zeros: Sequence[int]) -> None:
    layouts = Known()
    for turn in range(2):
        layouts.sees(request(range(10), turn, zeros))
    swapped = [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]
    assert layouts.sees(request(swapped, 5, zeros))
    stranger = request([0, 1, 2, 77, 4, 5, 6, 7, 8, 9], 5, [*zeros, 77] if zeros else [])
    assert layouts.find(stranger, layouts.series) is None


def test_a_sample_that_is_written_otherwise_is_left_to_the_walk() -> None:
    layouts = learned(range(10))
    usual = request(range(10), 5)
    head, value, time = usual[:-18], usual[-15:-7], usual[-7:]
    otherwise = head + b"\x12\x10" + time + b"\x09" + value
    assert len(otherwise) == len(usual)
    assert layouts.find(otherwise, layouts.series) is None


def test_values_that_stay_zero_are_learned() -> None:
    layouts = learned(range(100))
    seen = [layouts.sees(request(range(100), turn, zeros=[5])) for turn in range(40)]
    assert seen.count(False) == 1
    assert layouts.find(request(range(100), 50, zeros=[5]), layouts.series) is not None


def test_another_order_is_walked_until_it_is_learned() -> None:
    layouts = learned(range(200))
    other = [one * 77 % 200 for one in range(200)]
    seen = [layouts.sees(request(other, turn)) for turn in range(40)]
    assert not seen[0]
    assert all(seen[-10:])


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_request_that_is_cut_off_is_left_to_the_walk(cut: int) -> None:
    layouts = learned(range(10))
    data = request(range(10), 5)
    assert layouts.find(data, layouts.series) is not None
    whole = {stop for _, stop in series_spans(data)}
    found = layouts.find(data[:-cut], layouts.series)
    assert (found is not None) == (len(data) - cut in whole)


def test_what_is_no_series_is_left_to_the_walk_or_known_with_the_rest() -> None:
    layouts = learned(range(10))
    data = request(range(10), 5)
    assert layouts.find(METADATA + data, layouts.series) is None
    assert layouts.find(data + METADATA, layouts.series) is None
    for turn in range(40):
        layouts.sees(request(range(5), turn) + METADATA + request(range(5, 10), turn))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 40), st.sets(st.integers(0, 60), max_size=3)),
        min_size=1,
        max_size=30,
    ),
    st.integers(300, 8000),
)
def test_whatever_is_found_is_what_a_walk_finds(
    cuts: list[tuple[int, int, set[int]]], most_bytes: int
) -> None:
    layouts = Known(most_bytes)
    for turn, (begin, count, zeros) in enumerate(cuts):
        names = [one % 61 for one in range(begin, begin + count)]
        layouts.sees(request(names, turn, list(zeros)))  # asserts it of each that is found
        again = request(names, turn + 100, list(zeros))
        found, walked = layouts.find(again, layouts.series), scan(again, layouts.series)
        assert found is None or found.refs.tolist() == walked.refs.tolist()


def _round(layouts: Known, firsts: Sequence[int], turn: int) -> Mapping[int, bool]:
    return {one: layouts.sees(request(range(one, one + 3), turn)) for one in firsts}


def test_what_is_in_use_is_not_forgotten_for_what_comes_once() -> None:
    layouts = Known(most_bytes=8 * len(request(range(3), 0)))  # room for some, not for all
    rounds = [_round(layouts, range(0, 90, 10), turn) for turn in range(8)]
    assert rounds[-1] == rounds[-2]
    assert 0 < sum(rounds[-1].values()) < 9


def test_what_is_not_used_any_more_makes_room() -> None:
    layouts = Known(most_bytes=4 * len(request(range(3), 0)))
    for turn in range(30):
        layouts.sees(request(range(3), turn))
    assert layouts.sees(request(range(3), 40))
    seen = [layouts.sees(request(range(50, 53), turn)) for turn in range(30)]
    assert seen[-1]
    assert not layouts.sees(request(range(3), 41))


def shuffled(count: int, block: int) -> list[int]:
    """So many series in blocks, which come in another order."""
    blocks = [list(range(begin, begin + block)) for begin in range(0, count, block)]
    Random(7).shuffle(blocks)
    return [one for some in blocks for one in some]


@pytest.mark.parametrize("block", [250, 1000, 5000])
def test_a_long_request_is_found_however_its_blocks_lie(block: int) -> None:
    layouts = Known(16 << 20)
    for turn in range(2):
        layouts.sees(request(range(10_000), turn))
    assert layouts.sees(request(shuffled(10_000, block), 5))
    assert layouts.sees(request(range(10_000), 6))
    assert layouts.sees(request(range(10_000), 7, zeros=[0, 4999, 9999]))


def _seconds_to_find(count: int) -> float:
    """Of blocks of 4 KiB in another order, the least of several times."""
    layouts = Known(256 << 20)
    for turn in range(2):
        data = request(range(count), turn)
        walked = scan(data, layouts.series)
        layouts.learn(data, walked)
        for one in (read_series(data, *span, layouts.series) for span in series_spans(data)):
            assert one.key is not None
            layouts.series.setdefault(one.key, len(layouts.series))
    data, seconds = request(shuffled(count, 110), 5), []
    for _ in range(4):
        begin = time.process_time()
        assert layouts.find(data, layouts.series) is not None
        seconds.append(time.process_time() - begin)
    return min(seconds)


def test_a_request_in_another_order_costs_by_its_length_and_not_by_the_square_of_it() -> None:
    assert _seconds_to_find(88_000) < 9 * _seconds_to_find(22_000)


def test_a_time_that_is_shorter_is_left_to_the_walk() -> None:
    """Four bytes of a time and a field that is not known are as long as the six of a usual one."""
    layouts = learned(range(3))
    usual = request(range(3), 7)
    at = usual.rindex(b"\x10", 0, len(usual) - 6) + 1
    strange = usual[:at] + b"\x80\x80\x80\x01\x18\x00" + usual[at + 6 :]
    assert layouts.find(usual, layouts.series) is not None
    assert scan(strange, layouts.series).others
    found = layouts.find(strange, layouts.series)
    assert found is None or found.stops.tolist() != scan(usual, layouts.series).stops.tolist()
