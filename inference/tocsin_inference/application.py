"""The FastAPI application around a Worker: routes, errors, the key."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tocsin_inference import chat, completions, generate, state, thinking
from tocsin_inference.errors import (
    BodyTooLarge,
    Exhausted,
    Invalid,
    MalformedRequest,
    NotAllowed,
    NotFound,
    QueueFull,
    WorkerError,
    cut,
)
from tocsin_inference.middleware import BodyLimit, Guard, Head
from tocsin_inference.responses import JsonResponse
from tocsin_inference.worker import Worker

ROUTERS = {
    "chat": chat.router,
    "completions": completions.router,
    "generate": generate.router,
    "thinking": thinking.router,
    "state": state.router,
}
_MOST_ERRORS = 5  # of a body, in its answer
HTTP_ERRORS: dict[int, type[WorkerError]] = {
    404: NotFound,
    405: NotAllowed,
    413: BodyTooLarge,
    429: QueueFull,
}


def application(worker: Worker, version: str, wall: Callable[[], float]) -> FastAPI:
    """The app for `worker`; `wall` gives Unix time in seconds."""
    app = FastAPI(title="Tocsin worker", version=version, docs_url=None, redoc_url=None)
    app.state.worker = worker
    app.state.wall = wall
    app.state.born = int(wall())
    for router in ROUTERS.values():
        app.include_router(router)
    app.add_exception_handler(WorkerError, on_error)
    app.add_exception_handler(RequestValidationError, on_malformed)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)
    app.add_middleware(BodyLimit)
    app.add_middleware(Head)
    if worker.settings.api_keys:
        app.add_middleware(
            Guard,
            keys=worker.settings.api_keys,
            refuse=lambda outcome: worker.metrics.refuse(outcome, worker.clock()),
        )
    return app


async def on_error(request: Request, error: Exception) -> Response:
    """A WorkerError as its body and status, counted here if nothing has counted it yet."""
    assert isinstance(error, WorkerError)
    worker: Worker = request.app.state.worker
    if not error.counted:
        worker.metrics.refuse(error.outcome, worker.clock())
        error.counted = True
    return JsonResponse(error.body(), status_code=error.status, headers=error.headers())


async def on_malformed(request: Request, error: Exception) -> Response:
    """422 with what is wrong and where in the body."""
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{cut('.'.join(str(part) for part in e['loc'][1:])) or 'body'}: {cut(e['msg'], 300)}"
        for e in error.errors()[:_MOST_ERRORS]
    ]
    return await on_error(request, MalformedRequest("; ".join(problems)))


async def on_http(request: Request, error: Exception) -> Response:
    """404, 405, 413 and bodies that cannot be read, in the shape of every other error."""
    assert isinstance(error, HTTPException)
    worker: Worker = request.app.state.worker
    if lack := own_shortage(error.__cause__):
        return await on_error(request, lack)
    if isinstance(error.__cause__, ClientDisconnect):  # nobody was refused anything
        worker.metrics.refuse("cancelled", worker.clock())
    elif request.method == "POST" and error.status_code in (400, 413, 429):
        worker.metrics.refuse("rejected", worker.clock())
    answer = HTTP_ERRORS.get(error.status_code, Invalid)(str(error.detail))
    headers = answer.headers() | dict(error.headers or {})
    return JsonResponse(answer.body(), status_code=error.status_code, headers=headers)


def own_shortage(error: BaseException | None) -> WorkerError | None:
    """What kept us from reading a body: FastAPI takes any error there for the client's."""
    if isinstance(error, MemoryError):
        return Exhausted("memory")
    return error if isinstance(error, WorkerError) else None


async def on_bug(request: Request, error: Exception) -> Response:
    """500 without a word about the inside; the traceback goes to the log."""
    del request, error
    return JsonResponse(WorkerError("internal error, see the worker's log").body(), status_code=500)
