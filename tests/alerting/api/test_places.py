"""Room for queries: some run, some wait, the rest are told so."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import pytest

from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.places import QueryGate


def never() -> None:
    raise AssertionError("nobody is cut off here")


async def test_whoever_finds_no_room_to_wait_is_sent_away() -> None:
    places, entered = QueryGate(1, 1), list[int]()

    async def enter(number: int) -> None:
        async with places.place(never):
            entered.append(number)

    async with places.place(never):
        assert places.taken
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
    async with places.place(never):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), places.place(never):
                    raise AssertionError("there was no place")
    assert not places.taken


async def test_who_reads_slowly_waits_outside_and_of_too_many_the_oldest_ends() -> None:
    gate, cut = QueryGate(1, 0, reading=2), list[int]()
    async with AsyncExitStack() as stack:
        for number in range(4):
            place = await stack.enter_async_context(gate.place(partial(cut.append, number)))
            place.wait_outside()
            assert not gate.taken and cut == list(range(number - 1))
    assert not gate.taken
    async with gate.place(never) as place:
        place.leave()
        place.wait_outside()
        assert not gate.taken
    async with gate.place(never):
        assert gate.taken
