"""Requests that come again: found when they should be, within their memory."""

from support.write_requests import Series, plain
from tocsin_alerting.remote_write.layouts import Layouts
from tocsin_alerting.remote_write.message import spans, time_series
from tocsin_alerting.remote_write.walk import walk

NOW = 1_790_000_000_000


def request(first: int, turn: int, value: int = 1) -> bytes:
    names = (f"m{number}".encode() for number in range(first, first + 3))
    return plain([Series([(b"__name__", name)], [(NOW + turn, value)]) for name in names])


class Known(Layouts):
    """Layouts with the series that they are made of."""

    def __init__(self, most_bytes: int = 1 << 20) -> None:
        super().__init__(most_bytes)
        self.series: dict[bytes, int] = {}

    def sees(self, data: bytes) -> bool:
        """Whether a request was found; it is noted when not."""
        if self.find(data, self.series) is not None:
            return True
        self.note(data, self.series, walk(data, self.series))
        for one in (time_series(data, *span, self.series) for span in spans(data)):
            assert one.key is not None
            self.series.setdefault(one.key, len(self.series))
        return False


def test_a_request_is_found_from_the_fourth_time_on() -> None:
    layouts = Known()
    # Its series are new, then it is seen once, then a second time.
    assert [layouts.sees(request(0, turn)) for turn in range(6)] == [False] * 3 + [True] * 3


def test_a_value_that_becomes_zero_is_another_request() -> None:
    layouts = Known()
    for turn in range(4):
        layouts.sees(request(0, turn))
    assert not layouts.sees(request(0, 9, value=0))
    assert layouts.sees(request(0, 10))
    batch = layouts.find(request(0, 11, value=5), layouts.series)
    assert batch is not None
    assert batch.numbers.tolist() == [0, 1, 2]
    assert batch.times.tolist() == [NOW + 11] * 3


def test_what_is_in_use_is_not_forgotten_for_what_comes_once() -> None:
    size = 8 * len(request(0, 0))
    layouts = Known(most_bytes=size)  # room for some, not for all
    rounds = [[layouts.sees(request(10 * n, turn)) for n in range(9)] for turn in range(8)]
    assert rounds[-1] == rounds[-2]
    assert 0 < sum(rounds[-1]) < 9


def test_what_is_not_used_any_more_makes_room() -> None:
    layouts = Known(most_bytes=4 * len(request(0, 0)))
    for turn in range(30):
        layouts.sees(request(0, turn))
    assert layouts.sees(request(0, 40))
    seen = [layouts.sees(request(50, turn)) for turn in range(30)]
    assert seen[-1]
    assert not layouts.sees(request(0, 41))
