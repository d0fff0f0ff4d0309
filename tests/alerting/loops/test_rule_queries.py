"""Which queries of rules are evaluated on the loop, and which in a thread."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

import pytest

from support.exhausted import no_threads
from tocsin_alerting.loops.rule_queries import DISK_SECONDS, MAX_SECONDS, SLOW_SECONDS, RuleQueries
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import QueryTimeout
from tocsin_alerting.promql.parser.ast import Expr
from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.tsdb.query.selection import Selection
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")
NOW = 10**12
HOUR = 3_600_000


class Watched(Store):
    """A store that says in which threads it was asked, and may be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []
        self.seconds = 0.0
        self.answers = threading.Event()  # of the disk, and to templates
        self.answers.set()
        self.write([((("__name__", "m"),), NOW, 1.0)])

    def select(self, *arguments: object, **named: object) -> Selection:
        self.threads.append(threading.current_thread().name)
        if not threading.current_thread().name.startswith(("rules", "Main")):
            self.answers.wait()
        if self.seconds:
            time.sleep(self.seconds)
        return super().select(*arguments, **named)  # type: ignore[arg-type]


@pytest.fixture
def store() -> Watched:
    return Watched()


def queries(
    store: Watched, sealed_before_ms: int = 0, most_seconds: float = MAX_SECONDS
) -> RuleQueries:
    def sealed(at_ms: int) -> bool:
        return at_ms < sealed_before_ms

    threads = [Threads(2, name) for name in ("rules", "disk", "texts")]
    disk_seconds = min(DISK_SECONDS, most_seconds)
    return RuleQueries(
        QueryEngine(store), threads, sealed, time.monotonic, most_seconds, disk_seconds
    )


def where(store: Watched) -> list[str]:
    loop = threading.current_thread().name
    return ["loop" if name == loop else name.partition("-")[0] for name in store.threads]


async def test_what_was_quick_runs_on_the_loop_from_then_on(store: Watched) -> None:
    asked, expr = queries(store), parse("m")
    for _ in range(3):
        result = await asked.instant(expr, NOW)
        assert [value for _, value in result.value] == [1.0]  # type: ignore[union-attr, misc]
    assert where(store) == ["rules", "loop", "loop"]


async def test_what_was_slow_runs_in_a_thread_until_it_is_quick(store: Watched) -> None:
    asked, expr = queries(store), parse("m")
    await asked.instant(expr, NOW)
    store.seconds = 2 * SLOW_SECONDS
    await asked.instant(expr, NOW)
    await asked.instant(expr, NOW)
    store.seconds = 0
    await asked.instant(expr, NOW)
    await asked.instant(expr, NOW)
    assert where(store) == ["rules", "loop", "rules", "rules", "loop"]


async def test_what_may_need_the_disk_never_runs_on_the_loop(store: Watched) -> None:
    asked = queries(store, sealed_before_ms=NOW - HOUR)
    near, far = parse("max_over_time(m[30m])"), parse("max_over_time(m[2h])")
    for _ in range(3):
        await asked.instant(near, NOW)
        await asked.instant(far, NOW)
    assert where(store) == ["rules", "disk", *["loop", "disk"] * 2]


async def test_nobody_waits_on_the_loop_for_who_writes_to_the_store(store: Watched) -> None:
    threads = [Threads(2, name) for name in ("rules", "disk", "texts")]
    asked = RuleQueries(
        QueryEngine(store), threads, lambda _: False, time.monotonic, busy=store.busy
    )
    expr = parse("m")
    await asked.instant(expr, NOW)
    await asked.instant(expr, NOW)
    with store._lock:
        waits = asyncio.ensure_future(asked.instant(expr, NOW))
        await asyncio.sleep(0)  # would hang here
        assert not waits.done()
    await waits
    assert where(store)[:3] == ["rules", "loop", "rules"]


async def test_what_a_template_asks_runs_in_a_thread(store: Watched) -> None:
    asked = queries(store)
    for _ in range(2):
        await asked.instant("m", NOW)
    assert where(store) == ["texts", "texts"]


async def test_an_error_comes_back_from_the_thread(store: Watched) -> None:
    with pytest.raises(ValueError, match="unexpected end"):
        await queries(store).instant("m +", NOW)


async def test_without_a_thread_a_rule_is_evaluated_all_the_same(store: Watched) -> None:
    asked, expr = queries(store), parse("m")
    with no_threads():
        result = await asked.instant(expr, NOW)
    assert [value for _, value in result.value] == [1.0]  # type: ignore[union-attr, misc]
    assert where(store) == ["loop"]


async def test_a_disk_that_hangs_fails_those_alone_that_need_it(store: Watched) -> None:
    """And each of them at once, when all threads for the disk wait in vain."""
    asked = queries(store, sealed_before_ms=NOW - HOUR, most_seconds=0.05)
    far = [parse(f"max_over_time(m[{hours}h])") for hours in range(2, 6)]
    store.answers.clear()
    for query in far[:2]:
        with pytest.raises(QueryTimeout, match="no answer within 0.05 s"):
            await asked.instant(query, NOW)
    for query in far[2:]:
        with pytest.raises(QueryTimeout, match="does the disk hang"):
            await asked.instant(query, NOW)
    for hours in range(3):
        with pytest.raises(QueryTimeout):
            await asked.instant(f"m offset {hours}h", NOW)
    assert store.threads[2:4] == ["texts-0", "texts-1"]
    for _ in range(2):
        assert (await asked.instant(parse("m"), NOW)).value
    store.answers.set()
    async with asyncio.timeout(30):
        while not await _answers(asked, far[3]):
            await asyncio.sleep(0)


async def test_a_query_that_ends_while_another_is_compared_to_it_ends_nothing(
    store: Watched,
) -> None:
    """The thread gives the processor away between two steps of the loop."""
    ended = threading.Event()

    class Noting(Threads):
        def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
            def run() -> T:
                try:
                    return fn(*args, **kwargs)
                finally:
                    ended.set()

            return super().submit(run)

    class Text(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            store.answers.set()
            assert ended.wait(30)
            return super().__eq__(other)

    threads = [Threads(2, "rules"), Threads(2, "disk"), Noting(2, "texts")]
    asked = RuleQueries(QueryEngine(store), threads, lambda _: False, time.monotonic, 0.05)
    store.answers.clear()
    with pytest.raises(QueryTimeout, match=r"no answer within 0\.05 s"):
        await asked.instant(Text("m offset 97m"), NOW)  # kept from no other test: that compares
    assert (await asked.instant("m", NOW)).value


@pytest.mark.parametrize("text", [True, False])
async def test_a_query_that_hangs_is_waited_for_once(store: Watched, text: bool) -> None:
    """The rules behind it in its group wait meanwhile: a thread was free, and they waited again."""
    asked = queries(store, sealed_before_ms=NOW - HOUR, most_seconds=0.05)
    far = parse("max_over_time(m[2h])")
    store.answers.clear()
    for why in ("no answer within 0.05 s", "its previous run", "has not finished"):
        with pytest.raises(QueryTimeout, match=why):
            await asked.instant("m" if text else far, NOW)
    assert len(store.threads) == 1
    store.answers.set()
    async with asyncio.timeout(30):
        while not await _answers(asked, "m" if text else far):
            await asyncio.sleep(0)


async def _answers(asked: RuleQueries, query: str | Expr) -> bool:
    try:
        return bool((await asked.instant(query, NOW)).value)
    except QueryTimeout:
        return False


async def test_a_query_that_waits_for_a_thread_in_vain_is_not_run_later(store: Watched) -> None:
    asked = queries(store, sealed_before_ms=NOW - HOUR, most_seconds=0.05)
    store.answers.clear()
    far = [parse(f"max_over_time(m[{hours}h])") for hours in range(2, 7)]
    done = await asyncio.gather(*(asked.instant(one, NOW) for one in far), return_exceptions=True)
    assert [type(one) for one in done] == [QueryTimeout] * 5
    store.answers.set()
    async with asyncio.timeout(30):
        while not await _answers(asked, far[4]):
            await asyncio.sleep(0)
    assert len(store.threads) == 3 and where(store) == ["disk"] * 3


async def test_what_waits_for_others_that_are_slow_is_answered(store: Watched) -> None:
    """Eight queries of 50 ms in two threads, where each may take 120."""
    asked = queries(store, sealed_before_ms=NOW - HOUR, most_seconds=0.12)
    store.seconds = 0.05
    far = [parse(f"max_over_time(m[{hours}h])") for hours in range(2, 10)]
    found = await asyncio.gather(*(asked.instant(one, NOW) for one in far))
    assert all(one.value for one in found)


async def test_templates_that_gave_up_waiting_leave_no_query_behind(store: Watched) -> None:
    """They wait less than a query may take; the threads that hang are known all the same."""
    asked = queries(store)
    store.answers.clear()
    for hours in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asked.instant(f"m offset {hours}h", NOW)
    for _ in range(20):
        with pytest.raises(QueryTimeout, match="does the disk hang"):
            await asked.instant("m", NOW)
    store.answers.set()
    async with asyncio.timeout(30):
        while not await _answers(asked, "m"):
            await asyncio.sleep(0)
    assert len(store.threads) == 3
