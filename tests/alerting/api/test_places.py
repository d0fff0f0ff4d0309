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


async def test_who_reads_slowly_waits_outside_and_of_too_many_the_slowest_ends() -> None:
    gate, cut = QueryGate(1, 0, reading=2), list[int]()
    async with AsyncExitStack() as stack:
        for number, sent in enumerate([1.0, 0.0, 2.0, 3.0]):
            place = await stack.enter_async_context(gate.place(partial(cut.append, number)))
            place.sent = sent
            place.wait_outside(10.0)
            assert not gate.taken and cut == [[], [], [1], [1, 0]][number]
    assert not gate.taken
    async with gate.place(never) as place:
        place.leave()
        place.wait_outside(10.0)
        assert not gate.taken
    async with gate.place(never):
        assert gate.taken


async def test_who_waits_outside_is_bounded_by_the_samples_they_hold() -> None:
    gate, cut = QueryGate(1, 0, reading=9, samples=100), list[int]()
    async with AsyncExitStack() as stack:
        for number, samples in enumerate([60, 40, 50, 100]):
            place = await stack.enter_async_context(gate.place(partial(cut.append, number)))
            place.samples, place.sent = samples, float(number)
            place.wait_outside(10.0)
            assert not gate.taken and cut == [[], [], [0], [0, 1, 2]][number]


async def test_who_reads_steadily_is_not_ended_for_another_and_keeps_its_place() -> None:
    gate, cut = QueryGate(1, 0, reading=1), list[str]()
    async with gate.place(never) as steady:
        steady.sent = 10.0
        steady.wait_outside(10.1)
        async with gate.place(partial(cut.append, "deaf")) as deaf:
            deaf.sent = 10.0
            deaf.wait_outside(10.1)
            assert gate.taken and cut == []
            steady.sent = 10.45  # it has read the next one
            deaf.wait_outside(10.5)
            assert not gate.taken and cut == ["deaf"]
