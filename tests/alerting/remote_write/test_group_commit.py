"""Requests that wait together: received in fair turns, answered once the log has them."""

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.virtual_time import VirtualTimeLoop
from tocsin_alerting.remote_write.group_commit import GROUP_BYTES, GroupCommit
from tocsin_alerting.remote_write.prompb import Malformed
from tocsin_alerting.remote_write.result import ReceiveResult
from tocsin_alerting.tsdb.block_store import BlockStore
from tocsin_alerting.tsdb.disk_persistence import DiskPersistence
from tocsin_alerting.tsdb.senders import Sender

LONG = 20.0


class Site:
    """`open` lets the receiver go on; `asked` are those who wait for the log."""

    def __init__(self, log_seconds: float = 10 * LONG, group_seconds: float = LONG) -> None:
        self.received: list[bytes] = []
        self.asked: list[Future[None]] = []
        self.open, self.begun = threading.Event(), threading.Event()
        self.executor: Executor = ThreadPoolExecutor(1)
        self.commits = GroupCommit(
            self.receive, self.executor, self._logged, log_seconds, group_seconds
        )

    def receive(self, body: bytes, now_ms: int, sender: Sender) -> ReceiveResult:
        self.begun.set()
        self.open.wait(LONG)
        if body == b"bad":
            raise Malformed("not what it says")
        self.received.append(body)
        return ReceiveResult(0 if body == b"empty" else now_ms, {}, "")

    def _logged(self) -> "Future[None]":
        self.asked.append(Future())
        return self.asked[-1]

    def send(self, *bodies: bytes) -> "list[asyncio.Task[ReceiveResult]]":
        receipt = self.commits.commit
        return [asyncio.create_task(receipt(one, at + 1)) for at, one in enumerate(bodies)]


async def settled(tasks: "Sequence[asyncio.Task[ReceiveResult]]") -> list[int | str]:
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG)
    return [one.accepted if isinstance(one, ReceiveResult) else str(one) for one in done]


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


FLOOD = [Sender("192.0.2.1", f"flood-{number}") for number in range(20)]
VICTIM = Sender("192.0.2.2", "Prometheus")


async def received_while_it_waits(sent: Sequence[tuple[bytes, Sender]]) -> list[bytes]:
    """What a receiver that was at work when all of it was sent receives then, in its order."""
    site = Site()
    first = site.send(b"first")
    await asyncio.to_thread(site.begun.wait)
    receipt = site.commits.commit
    tasks = [asyncio.create_task(receipt(body, 1, sender)) for body, sender in sent]
    await asyncio.sleep(0)  # they wait
    site.open.set()
    async with asyncio.timeout(LONG):
        while not all(one.done() for one in (*first, *tasks)):
            for asked in site.asked:
                if not asked.done():
                    asked.set_result(None)
            await asyncio.sleep(0.001)
    assert await settled(tasks) == [1] * len(sent)
    return site.received[1:]


async def test_a_short_request_waits_for_no_flood_of_long_ones() -> None:
    """A fault's write waited half a minute for requests of 5,000 new series each."""
    flood = [(b"%d" % at * 20_000, FLOOD[at % 20]) for at in range(10, 90)]
    received = await received_while_it_waits([*flood, (b"fault", VICTIM)])
    assert received.index(b"fault") < 2
    assert sorted(received) == sorted(body for body, _ in [*flood, (b"fault", VICTIM)])


async def test_a_sender_s_own_requests_keep_their_order_however_long_each_is() -> None:
    """Its older samples were refused once the newer ones had been received."""
    mine = [(bytes([at]) * (100 - at), VICTIM) for at in range(20)]
    flood = [(b"%d" % at * (200 - at), FLOOD[at % 5]) for at in range(10, 30)]
    sent = [one for pair in zip(mine, flood, strict=True) for one in pair]
    received = await received_while_it_waits(sent)
    for sender in (VICTIM, *FLOOD[:5]):
        own = [body for body, whose in sent if whose == sender]
        assert [body for body in received if body in own] == own


async def test_senders_take_turns() -> None:
    """Whatever the lengths: of each that waits one, before there is a second of any."""
    flood = [(b"%d" % at * 1000, FLOOD[at % 5]) for at in range(10, 60)]
    mine = b"as long as the others".ljust(2500)
    received = await received_while_it_waits([*flood, (mine, VICTIM)])
    assert received.index(mine) <= 2 * 6


async def test_a_long_request_has_its_turn_among_short_ones() -> None:
    long = b"long" * 1000
    short = [(b"%d" % at, FLOOD[at % 20]) for at in range(10, 90)]
    received = await received_while_it_waits([*short[:40], (long, VICTIM), *short[40:]])
    assert received.index(long) <= 2 * 21


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


async def test_the_first_of_a_group_waits_for_no_more_than_so_many_seconds() -> None:
    """A fault's write was received at once, and answered behind 40 small ones of 100,000 new series
    in all: after 7 s, and after 10 on a slow machine."""
    site = Site(group_seconds=0.0)
    first = site.send(b"first")
    await asyncio.to_thread(site.begun.wait)
    tasks = site.send(b"a", b"b", b"c")
    await asyncio.sleep(0)  # they wait
    site.open.set()
    await until(site, 4)
    site.asked[1].set_result(None)
    assert await settled(tasks[:1]) == [1]
    assert not tasks[1].done() and not tasks[2].done()
    for one in (site.asked[0], *site.asked[2:]):
        one.set_result(None)
    assert await settled([*first, *tasks]) == [1, 1, 2, 3]


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


async def test_a_request_that_is_not_begun_is_not_begun_later_either() -> None:
    """Its sender was told so, and sends it again."""
    site = Site()
    site.open.set()
    site.commits = GroupCommit(site.receive, Scarce(1))
    assert await settled(site.send(b"a")) == ["can't start new thread"]
    assert await settled(site.send(b"b")) == [1]
    assert site.received == [b"b"]


class Poor(ThreadPoolExecutor):
    """There is no memory for the first thread."""

    tries = 0

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.tries += 1
        if self.tries == 1:
            raise MemoryError("no room for a thread")
        return super().submit(*args, **kwargs)


async def test_when_there_is_no_memory_for_a_thread_the_next_request_tries_again() -> None:
    site = Site()
    site.open.set()
    site.commits = GroupCommit(site.receive, Poor(1))
    assert await settled(site.send(b"a")) == ["no room for a thread"]
    assert await settled(site.send(b"b")) == [1]


class Forgetful:
    """`logged` of a disk: the first time there is no memory for a future, or none to add a
    callback to it; then the log has everything at once."""

    def __init__(self, callback: bool) -> None:
        self._callback, self.asked = callback, 0

    def __call__(self) -> "Future[None]":
        self.asked += 1
        if self.asked == 1:
            if not self._callback:
                raise MemoryError("no room")
            return _Crowded()
        done: Future[None] = Future()
        done.set_result(None)
        return done


class _Crowded(Future[None]):
    def add_done_callback(self, fn: Any) -> None:
        raise MemoryError("no room")


@pytest.mark.parametrize("callback", [False, True])
async def test_a_group_that_cannot_be_committed_is_told_so_and_ends_nothing(
    callback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in no log yet, so nobody is told that it was taken; those after it are served."""
    site = Site()
    logged = Forgetful(callback)
    site.commits = GroupCommit(site.receive, site.executor, logged, log_seconds=10 * LONG)
    first = site.send(b"first")
    await asyncio.to_thread(site.begun.wait)
    others = site.send(b"a", b"bad", b"c")
    await asyncio.sleep(0)  # they wait
    site.open.set()
    assert await settled(first) == ["no room"]
    assert await settled(others) == [1, "not what it says", 3]
    assert await settled(site.send(b"later")) == [1]
    assert "1 requests failed" in caplog.text and not site.commits._unlogged


async def test_of_a_group_that_fails_each_hears_what_is_so() -> None:
    site = Site()
    first = site.send(b"empty")  # waits for no log
    await asyncio.to_thread(site.begun.wait)
    site.commits._logged = Forgetful(callback=False)
    others = site.send(b"a", b"bad", b"c")
    await asyncio.sleep(0)  # they wait, and will be one group
    site.open.set()
    assert await settled([*first, *others]) == [0, "no room", "not what it says", "no room"]


class Heavy(bytes):
    """There is no memory to look at it the first time."""

    looked = 0

    def __len__(self) -> int:
        self.looked += 1
        if self.looked == 1:
            raise MemoryError("no room")
        return super().__len__()


async def test_a_thread_that_fails_before_it_has_a_request_is_followed_by_another() -> None:
    site = Site()
    site.open.set()
    site.commits = GroupCommit(site.receive, site.executor)
    first = site.send(Heavy(b"a"))
    await asyncio.sleep(0)  # it waits
    async with asyncio.timeout(LONG):
        while site.commits._is_working:
            await asyncio.sleep(0.001)
    assert await settled([*first, *site.send(b"b")]) == [1, 1]


class CrowdedLoop(VirtualTimeLoop):
    """There is no memory to tell it anything."""

    def call_soon_threadsafe(  # type: ignore[override]
        self, *args: Any, **kwargs: Any
    ) -> asyncio.Handle:
        raise MemoryError("no room")


async def _answers_untold(bodies: Sequence[bytes]) -> list[int | str]:
    def receive(body: bytes, now_ms: int, sender: Sender) -> ReceiveResult:
        if body == b"bad":
            raise Malformed("not what it says")
        return ReceiveResult(0, {}, "")

    commits = GroupCommit(receive, Later(asyncio.get_running_loop(), 1.0), None, 2.0, LONG)
    tasks = [asyncio.create_task(commits.commit(one, 1)) for one in bodies]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return [one.accepted if isinstance(one, ReceiveResult) else str(one) for one in done]


def test_who_cannot_be_told_at_once_is_told_when_the_log_is_due() -> None:
    with asyncio.Runner(loop_factory=CrowdedLoop) as runner:
        found = runner.run(asyncio.wait_for(_answers_untold([b"bad", b"a"]), LONG))
    assert found == ["not what it says", "no room"]


class Later(Executor):
    """Work is done on the loop, `seconds` after it was handed over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop, self._seconds = loop, seconds

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self._loop.call_later(self._seconds, lambda: fn(*args, **kwargs))
        return Future()


async def _answered_at(
    begins: float, takes: float, logs: float | None, log_seconds: float
) -> float:
    """When the first of two requests is answered: receiving begins so late, takes so long for
    each, and the log so long after it was asked (None: it hangs)."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)

    def receive(body: bytes, now_ms: int, sender: Sender) -> ReceiveResult:
        loop.hold(takes)
        return ReceiveResult(1, {}, "")

    def logged() -> "Future[None]":
        asked: Future[None] = Future()
        if logs is not None:
            loop.call_later(logs, asked.set_result, None)
        return asked

    commits = GroupCommit(receive, Later(loop, begins), logged, log_seconds, LONG)
    tasks = [asyncio.create_task(commits.commit(body, 1)) for body in (b"a", b"b")]
    await tasks[0]
    return loop.time()


@pytest.mark.parametrize(
    ("begins", "takes", "logs", "answered"),
    [
        (1.95, 0.0, 0.3, 2.25),  # it waited for its turn nearly as long as for the log
        (0.0, 1.5, 0.3, 3.3),  # it was received, and then another one
        (5.0, 0.0, 1.9, 6.9),
        (0.0, 0.0, 0.3, 0.3),
        (1.95, 0.0, None, 3.95),  # the disk hangs
        (5.0, 1.5, 60.0, 10.0),
    ],
)
def test_only_the_log_is_given_so_long_from_when_nothing_else_is_waited_for(
    begins: float, takes: float, logs: float | None, answered: float
) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        at = runner.run(_answered_at(begins, takes, logs, 2.0))
    assert at == pytest.approx(answered)


async def _bytes_held(tmp_path: Path, body: bytes, count: int) -> int:
    """What so many requests leave in memory that were answered while the disk hangs."""
    disk = DiskPersistence(tmp_path, BlockStore(tmp_path, 1000, 1000))  # nobody writes
    site = Site()
    site.open.set()
    commits = GroupCommit(
        lambda *_: ReceiveResult(1, {}, ""), site.executor, disk.logged, log_seconds=0.01
    )
    await commits.commit(bytes(body), 1)
    tracemalloc.start()
    try:
        for _ in range(count // 20):
            some = [commits.commit(bytes(bytearray(body)), 1) for _ in range(20)]
            assert len(await asyncio.gather(*some)) == 20
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("size", "count"), [(1 << 20, 100), (10, 2000)])
async def test_requests_that_were_answered_while_the_disk_hangs_leave_nothing_in_memory(
    tmp_path: Path, size: int, count: int
) -> None:
    assert await _bytes_held(tmp_path, bytes(size), count) < 200_000
