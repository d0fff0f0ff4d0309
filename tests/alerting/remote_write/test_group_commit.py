"""Requests that wait together: received in their order, answered once the log has them."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from tocsin_alerting.remote_write.group_commit import GROUP_BYTES, GroupCommit
from tocsin_alerting.remote_write.receipt import Receipt
from tocsin_alerting.remote_write.wire import Malformed
from tocsin_alerting.store.senders import Sender

LONG = 20.0


class Site:
    """`open` lets the receiver go on; `asked` are those who wait for the log."""

    def __init__(self, log_seconds: float = 10 * LONG) -> None:
        self.received: list[bytes] = []
        self.asked: list[Future[None]] = []
        self.open, self.begun = threading.Event(), threading.Event()
        self.executor: Executor = ThreadPoolExecutor(1)
        self.commits = GroupCommit(self.receive, self.executor, self._logged, log_seconds)

    def receive(self, body: bytes, now_ms: int, sender: Sender) -> Receipt:
        self.begun.set()
        self.open.wait(LONG)
        if body == b"bad":
            raise Malformed("not what it says")
        self.received.append(body)
        return Receipt(0 if body == b"empty" else now_ms, {}, "")

    def _logged(self) -> "Future[None]":
        self.asked.append(Future())
        return self.asked[-1]

    def send(self, *bodies: bytes) -> "list[asyncio.Task[Receipt]]":
        receipt = self.commits.receipt
        return [asyncio.create_task(receipt(one, at + 1)) for at, one in enumerate(bodies)]


async def settled(tasks: "Sequence[asyncio.Task[Receipt]]") -> list[int | str]:
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG)
    return [one.taken if isinstance(one, Receipt) else str(one) for one in done]


async def until(site: Site, asked: int) -> None:
    async with asyncio.timeout(LONG):
        while len(site.asked) < asked:
            await asyncio.sleep(0.001)


async def test_a_sender_is_answered_only_once_the_log_has_its_samples() -> None:
    site = Site()
    site.open.set()
    tasks = site.send(b"a")
    await until(site, 1)
    await asyncio.sleep(0.02)
    assert not tasks[0].done()
    site.asked[0].set_result(None)
    assert await settled(tasks) == [1]


async def test_those_that_wait_together_share_one_write_and_fare_each_for_itself() -> None:
    site = Site()
    first = site.send(b"first")
    await asyncio.to_thread(site.begun.wait)
    tasks = site.send(b"a", b"bad", b"c")
    await asyncio.sleep(0)  # they wait
    site.open.set()
    await until(site, 2)
    assert site.received == [b"first", b"a", b"c"]
    for one in site.asked:
        one.set_result(None)
    assert await settled([*first, *tasks]) == [1, 1, "not what it says", 3]
    assert len(site.asked) == 2


async def test_what_is_received_next_need_not_wait_for_the_log() -> None:
    site = Site()
    site.open.set()
    first = site.send(b"first")
    await until(site, 1)
    second = site.send(b"second")
    await until(site, 2)
    site.asked[1].set_result(None)
    assert await settled(second) == [1]
    assert not first[0].done()
    site.asked[0].set_result(None)
    assert await settled(first) == [1]


async def test_a_disk_that_hangs_holds_up_no_sender() -> None:
    site = Site(log_seconds=0.01)
    site.open.set()
    assert await settled(site.send(b"a", b"b")) == [1, 2]


async def test_nobody_is_answered_before_the_store_has_it_however_long_that_takes() -> None:
    site = Site(log_seconds=0.01)
    tasks = site.send(b"a")
    await asyncio.sleep(0.05)
    assert not tasks[0].done()
    site.open.set()
    assert await settled(tasks) == [1]


async def test_without_a_sample_there_is_nothing_to_wait_for() -> None:
    site = Site()
    site.open.set()
    assert await settled(site.send(b"empty", b"bad")) == [0, "not what it says"]
    assert site.asked == []


async def test_the_first_of_a_group_waits_for_no_more_than_so_many_bytes() -> None:
    site = Site()
    first = site.send(b"first")
    await asyncio.to_thread(site.begun.wait)
    tasks = site.send(bytes(GROUP_BYTES), bytes(GROUP_BYTES))
    await asyncio.sleep(0)  # they wait
    site.open.set()
    await until(site, 3)
    site.asked[1].set_result(None)
    assert await settled(tasks[:1]) == [1]
    assert not tasks[1].done()
    for one in (site.asked[0], site.asked[2]):
        one.set_result(None)
    assert await settled([*first, *tasks]) == [1, 1, 2]


async def test_a_sender_that_went_away_disturbs_nobody() -> None:
    site = Site()
    first = site.send(b"first")
    await asyncio.to_thread(site.begun.wait)
    gone, stays = site.send(b"gone", b"stays")
    await asyncio.sleep(0)  # they wait, and will be one group
    gone.cancel()
    site.open.set()
    await until(site, 2)
    for one in site.asked:
        one.set_result(None)
    assert await settled([*first, stays]) == [1, 2]
    assert site.received == [b"first", b"gone", b"stays"]
    with pytest.raises(asyncio.CancelledError):
        await gone


class Scarce(ThreadPoolExecutor):
    """The first thread cannot be had."""

    tries = 0

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("can't start new thread")
        return super().submit(*args, **kwargs)


async def test_when_there_is_no_thread_the_next_request_tries_again() -> None:
    site = Site()
    site.open.set()
    site.commits = GroupCommit(site.receive, Scarce(1))
    assert await settled(site.send(b"a")) == ["can't start new thread"]
    assert await settled(site.send(b"b")) == [1]
