"""Room for queries: some run, some wait, the rest are told so."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import pytest

from tocsin_alerting.api.http.envelope import ApiError
from tocsin_alerting.api.prometheus.query_gate import PATIENCE_SECONDS, QueryGate, QuerySlot


def never() -> None:
    raise AssertionError("nobody is cut off here")


async def test_whoever_finds_no_room_to_wait_is_sent_away() -> None:
    places, entered = QueryGate(1, 1), list[int]()

    async def enter(number: int) -> None:
        async with places.slot(never):
            entered.append(number)

    async with places.slot(never):
        assert places.is_full
        waiting = asyncio.ensure_future(enter(1))
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await enter(2)
        assert entered == []
    await waiting
    assert entered == [1]
    assert refused.value.type == "unavailable"
    assert str(refused.value) == (
        "too many queries: 1 run and 1 wait; ask again in a moment, and for fewer at once"
    )


async def test_whoever_stops_waiting_makes_room() -> None:
    places = QueryGate(1, 1)
    async with places.slot(never):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), places.slot(never):
                    raise AssertionError("there was no place")
    assert not places.is_full


def sends(place: QuerySlot, size: int, since: float) -> QuerySlot:
    place.size = size
    place.sends(since)
    return place


async def test_who_sends_has_no_place_and_where_there_is_no_room_the_slowest_ends() -> None:
    gate, cut = QueryGate(1, 0, sending=100), list[int]()
    sizes, since = [60, 40, 50, 100], [1.0, 0.0, 2.0, 3.0]
    async with AsyncExitStack() as stack:
        for number in range(4):
            place = await stack.enter_async_context(gate.slot(partial(cut.append, number)))
            assert sends(place, sizes[number], since[number]).leave_to_send(10.0)
            assert not gate.is_full and cut == [[], [], [1, 0], [1, 0, 2]][number]
    assert not gate.is_full
    async with gate.slot(never) as place:
        place.release()
        assert place.leave_to_send(10.0)
        assert not gate.is_full
    async with gate.slot(never):
        assert gate.is_full


async def test_one_answer_has_room_however_large_it_is() -> None:
    gate = QueryGate(1, 0, sending=100)
    async with gate.slot(never) as place:
        assert sends(place, 1000, 0.0).leave_to_send(10.0)
        assert not gate.is_full


async def test_who_reads_steadily_is_not_ended_for_another_that_keeps_its_place() -> None:
    gate, cut = QueryGate(1, 0, sending=100), list[str]()
    async with gate.slot(never) as steady:
        assert sends(steady, 100, 10.0).leave_to_send(10.0)
        async with gate.slot(partial(cut.append, "deaf")) as deaf:
            assert not sends(deaf, 1, 10.0).leave_to_send(10.1)
            assert gate.is_full and cut == []
            steady.taken(10.2)
            assert deaf.leave_to_send(10.3)
            assert not gate.is_full and cut == ["deaf"]


async def test_who_waits_for_its_next_piece_is_as_slow_as_it_was() -> None:
    gate, cut = QueryGate(1, 0, sending=100), list[str]()
    async with gate.slot(partial(cut.append, "slow")) as slow:
        assert sends(slow, 100, 10.0).leave_to_send(10.0)
        assert slow.taken(10.3) == pytest.approx(0.3)
        async with gate.slot(never) as other:
            assert sends(other, 1, 10.3).leave_to_send(10.4)
            assert cut == ["slow"]


async def test_for_who_reads_steadily_without_room_nobody_waits_for_long() -> None:
    """A fifth of a second for each piece: the slower of the two ends, once it took five seconds."""
    gate, cut = QueryGate(1, 0, sending=100), list[str]()
    async with gate.slot(partial(cut.append, "outside")) as outside:
        assert sends(outside, 100, 0.0).leave_to_send(0.0)
        outside.taken(0.21)
        async with gate.slot(never) as inside:
            now = 1.0
            while not sends(inside, 100, now).leave_to_send(now) and now < 60:
                assert cut == []
                inside.taken(now + 0.2)
                now += 0.5
            assert cut == ["outside"] and not gate.is_full
            assert PATIENCE_SECONDS / 0.2 * 0.5 <= now <= PATIENCE_SECONDS / 0.2 * 0.5 + 2


async def test_who_is_the_slowest_and_has_no_room_ends_itself() -> None:
    gate, cut = QueryGate(1, 0, sending=100), list[str]()
    async with gate.slot(never) as outside:
        assert sends(outside, 100, 0.0).leave_to_send(0.0)
        outside.taken(0.01)
        async with gate.slot(partial(cut.append, "inside")) as inside:
            for piece in range(30):
                sends(inside, 100, piece).taken(piece + 0.2)
            assert sends(inside, 100, 40.0).leave_to_send(40.0)
            assert cut == ["inside"] and not gate.is_full
