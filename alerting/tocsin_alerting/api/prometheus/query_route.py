"""From a request to a QueryResponse: what every endpoint that reads the store has in common."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.body import BODY_SECONDS
from tocsin_alerting.api.http.envelope import ApiError, failure
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.http.roles import Role
from tocsin_alerting.api.prometheus.params import Fields, Params, read_params
from tocsin_alerting.api.prometheus.query_response import QueryContext, QueryResponse, QueryWork

Handler = Callable[[Params, QueryContext], QueryWork]
_NOT_READ = (
    f"request body not received within {BODY_SECONDS:g} s while other queries run; retry later"
)
_MAX_LOGGED_CHARACTERS = 1000  # characters of a query in a line of the log


def query_route(
    path: str,
    handler: Handler,
    context: QueryContext,
    *methods: str,
    refused: Callable[[ApiError], Response] = failure,
) -> Route:
    """`handler` reads the parameters, in the loop, and raises ApiError for those that are wrong;
    the Work that it gives runs in a thread. `methods` are those besides GET,
    and `refused` answers what is wrong."""

    async def in_turn(work: Callable[[], Fields]) -> Fields:
        try:
            async with asyncio.timeout(BODY_SECONDS), context.gate.slot(lambda: None):
                return await asyncio.get_running_loop().run_in_executor(context.evaluating, work)
        except TimeoutError:
            raise ApiError("timeout", _NOT_READ) from None

    async def answer(request: Request) -> QueryResponse:
        params = await read_params(request, in_turn)
        text = params.get("query") or " ".join(params.get_all("match[]"))
        log_fields = {"path": request.scope["path"], "query": text[:_MAX_LOGGED_CHARACTERS]}
        return QueryResponse(
            context, handler(params, context), params.duration("timeout"), log_fields
        )

    return get_route(
        path, answer, *methods, any_origin=True, change_role=Role.READ, refused=refused
    )
