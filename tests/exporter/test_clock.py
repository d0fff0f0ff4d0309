"""The clock against a wall clock that steps."""

import asyncio

import pytest

from tocsin_exporter.clock import Clock, Stamps, set_back_ms


class Wall:
    def __init__(self) -> None:
        self.wall, self.mono = 1_000_000.0, 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


def clock_on(wall: Wall) -> Clock:
    return Clock(lambda: wall.wall, lambda: wall.mono)


def test_it_tells_wall_time() -> None:
    wall = Wall()
    clock = clock_on(wall)
    wall.pass_(1.5)
    assert clock.now_ms() == 1_000_001_500


def test_a_step_is_not_seen_before_the_check_and_moves_everyone_once() -> None:
    wall = Wall()
    clock = clock_on(wall)
    moves: list[int] = []
    clock.on_move(moves.append)
    wall.wall -= 3600
    assert clock.now_ms() == 1_000_000_000
    assert clock.check() == -3_600_000
    assert clock.now_ms() == 1_000_000_000 - 3_600_000
    assert clock.check() == 0
    assert moves == [-3_600_000]


def test_drift_is_followed_slowly_and_never_reported() -> None:
    wall = Wall()
    clock = clock_on(wall)
    wall.wall += 0.12
    times: list[int] = []
    for _ in range(4):
        assert clock.check() == 0
        times.append(clock.now_ms() - 1_000_000_000)
    assert times == [50, 100, 120, 120]


async def test_a_sleeper_wakes_at_its_time_though_the_clock_fell_back_meanwhile() -> None:
    wall, loop = Wall(), asyncio.get_running_loop()
    began = loop.time()
    clock = Clock(lambda: wall.wall, lambda: loop.time() - began)
    due_ms = clock.now_ms() + 60
    sleeper = asyncio.create_task(clock.sleep_until(due_ms))
    await asyncio.sleep(0)
    wall.wall -= 1.0
    clock.check()  # by 50 ms, as a drift
    assert await sleeper is True
    assert clock.now_ms() >= due_ms


async def test_a_sleeper_is_woken_by_a_jump_and_told_so() -> None:
    wall = Wall()
    clock = clock_on(wall)
    sleeper = asyncio.create_task(clock.sleep_until(clock.now_ms() + 3_600_000))
    await asyncio.sleep(0)
    wall.wall += 7200
    clock.check()
    assert await sleeper is False
    assert await clock.sleep_until(clock.now_ms()) is True


@pytest.mark.parametrize(
    ("newest_s", "other_s", "moved_s"),
    [
        (None, None, None),
        (None, 50, None),
        (-1, None, None),
        (50, None, 50),
        (50, 58, 58),  # one run wrote both at its end
        (58, 50, 58),
        (50, 200, 50),  # another run's, or already moved
        (7200, -3, 7200),
        (-3, 7200, None),
        (-3, 10, 10),
    ],
)
def test_what_an_earlier_run_left_lies_before_now(
    newest_s: int | None, other_s: int | None, moved_s: int | None
) -> None:
    now_ms = 1_000_000_000
    newest, other = (None if one is None else now_ms + one * 1000 for one in (newest_s, other_s))
    moved = 0 if moved_s is None else -1 - moved_s * 1000
    assert set_back_ms(now_ms, newest, other) == moved


def test_stamps_keep_their_age_when_the_clock_is_set() -> None:
    wall = Wall()
    stamps = Stamps(lambda: wall.wall)
    assert stamps.newest() is None
    stamps.add()
    wall.pass_(600)
    for step in (7200, -7200, -10 * 365 * 86_400):
        wall.wall += step
        stamps.move(step * 1000)
        assert stamps.newest() == wall.wall - 600
    stamps.add()
    assert stamps.newest() == wall.wall


def test_stamps_of_an_earlier_run_are_by_its_clock() -> None:
    """Set back by two hours since; what lies ahead of that too says only that a clock was wrong."""
    wall = Wall()
    stamps = Stamps(lambda: wall.wall)
    stamps.move_earlier(-7_200_000)  # before or after they were read
    stamps.remember([wall.wall + at for at in (-9000, 7200 - 600, 8000)])
    assert stamps.newest() == wall.wall - 600
    stamps.remember([wall.wall])
    stamps.move(60_000)
    wall.wall += 60
    assert stamps.newest() == wall.wall - 600


def test_what_an_earlier_run_stamped_with_a_time_to_come_is_not_known() -> None:
    wall = Wall()
    stamps = Stamps(lambda: wall.wall)
    stamps.remember([wall.wall + 1, wall.wall - 5])
    assert stamps.newest() == wall.wall - 5
