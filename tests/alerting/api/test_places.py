"""Room for queries: some run, some wait, the rest are told so."""

import asyncio

import pytest

from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.places import QueryGate


async def test_whoever_finds_no_room_to_wait_is_sent_away() -> None:
    places, entered = QueryGate(1, 1), list[int]()

    async def enter(number: int) -> None:
        async with places:
            entered.append(number)

    async with places:
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
    async with places:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), places:
                    raise AssertionError("there was no place")
    assert not places.taken
