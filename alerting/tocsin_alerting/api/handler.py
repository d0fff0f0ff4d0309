"""From a request to a Turn: what every endpoint that reads the store has in common."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import Route

from tocsin_alerting.api.answers import ApiError
from tocsin_alerting.api.asked import Asked, Fields, asked
from tocsin_alerting.api.body import SECONDS
from tocsin_alerting.api.reads import read
from tocsin_alerting.api.turn import Queries, Turn, Work

Handler = Callable[[Asked, Queries], Work]
_NOT_READ = f"the form was not read within {SECONDS:g} s, other queries run: ask later"
_MOST_LOGGED = 1000  # characters of a query in a line of the log


def route(path: str, handler: Handler, queries: Queries, *methods: str) -> Route:
    """`handler` reads the parameters, in the loop, and raises ApiError for those that are wrong;
    the Work that it gives runs in a thread. `methods` are those besides GET."""

    async def in_turn(work: Callable[[], Fields]) -> Fields:
        try:
            async with asyncio.timeout(SECONDS), queries.places.place(lambda: None):
                return await asyncio.get_running_loop().run_in_executor(queries.evaluating, work)
        except TimeoutError:
            raise ApiError("timeout", _NOT_READ) from None

    async def answer(request: Request) -> Turn:
        found = await asked(request, in_turn)
        text = found.get("query") or " ".join(found.all("match[]"))
        told = {"path": request.scope["path"], "query": text[:_MOST_LOGGED]}
        return Turn(queries, handler(found, queries), found.duration("timeout"), told)

    return read(path, answer, *methods, any_origin=True)
