"""A crowd of requests: a few begin in each turn of the loop, in their order, in two lanes."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tocsin_exporter.admission import Admission, is_health

CROWD = 60


class App:
    """Notes who begins in which turn of the loop."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.turn = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.append((scope["path"], self.turn))
        for _ in range(3):
            await asyncio.sleep(0)

    @contextmanager
    def counting(self) -> Iterator[None]:
        loop, over = asyncio.get_running_loop(), False

        def tick() -> None:
            self.turn += 1
            if not over:
                loop.call_soon(tick)

        loop.call_soon(tick)
        try:
            yield
        finally:
            over = True

    def turns(self, chosen: Callable[[str], bool]) -> Counter[int]:
        return Counter(turn for path, turn in self.begun if chosen(path))


def requests(app: Admission, paths: Sequence[str]) -> list["asyncio.Task[None]"]:
    scopes = [{"type": "http", "method": "GET", "path": path} for path in paths]
    return [asyncio.create_task(app(scope, _none, _none)) for scope in scopes]


async def _none(*_: Any) -> Any:
    raise AssertionError("nobody reads or sends here")


@pytest.mark.parametrize("most", [1, 3])
async def test_few_begin_in_a_turn_and_all_in_their_order(most: int) -> None:
    app = App()
    paths = [f"/{number}" for number in range(CROWD)]
    with app.counting():
        await asyncio.gather(*requests(Admission(app, most=most), paths))
    assert [path for path, _ in app.begun] == paths
    assert set(app.turns(lambda path: True).values()) == {most}


async def test_who_comes_alone_waits_for_nobody() -> None:
    app = App()
    admission = Admission(app)
    with app.counting():
        for _ in range(5):
            before = app.turn
            await admission({"type": "http", "path": "/"}, _none, _none)
            assert app.begun.pop() == ("/", before)


async def test_what_is_urgent_has_places_of_its_own() -> None:
    app = App()
    crowd = ["/metrics"] * CROWD
    with app.counting():
        await asyncio.gather(*requests(Admission(app, most=2), [*crowd, *["/-/healthy"] * 10]))
    last = max(number for number, (path, _) in enumerate(app.begun) if path == "/-/healthy")
    assert last < 25, "the health page waited for the crowd"
    assert set(app.turns(lambda path: path == "/-/healthy").values()) == {2}, "a crowd as well"


async def test_who_goes_while_waiting_leaves_no_place_empty() -> None:
    app = App()
    with app.counting():
        asked = requests(Admission(app, most=1), [f"/{number}" for number in range(20)])
        await asyncio.sleep(0)
        for one in asked[5:15]:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    gone = {f"/{number}" for number in range(5, 15)}
    assert [path for path, _ in app.begun] == [
        f"/{number}" for number in range(20) if f"/{number}" not in gone
    ]
    turns = [turn for _, turn in app.begun]
    assert turns[-1] - turns[0] <= 10


async def test_a_lifespan_is_no_request() -> None:
    app = App()

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        app.begun.append((scope["type"], 0))

    await Admission(lifespan)({"type": "lifespan"}, _none, _none)
    assert app.begun == [("lifespan", 0)]


def test_health_pages() -> None:
    assert is_health({"path": "/-/ready"}) and not is_health({"path": "/metrics"})
