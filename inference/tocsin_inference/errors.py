"""What can go wrong with a request, in the words of the API.

Each error knows the HTTP status it answers with and the outcome it is counted under. Refusals that
are the client's to mend (a bad parameter, a full queue) count as `rejected`, never as `error`: an
error rate that a client can raise would page people for nothing.
"""

from __future__ import annotations

import asyncio
import reprlib
from typing import Literal

Outcome = Literal["success", "error", "timeout", "cancelled", "rejected"]
OUTCOMES: tuple[Outcome, ...] = ("success", "error", "timeout", "cancelled", "rejected")

_MOST_SHOWN = 100
_MOST_MESSAGE = 1000
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _MOST_SHOWN


def shown(value: object) -> str:
    """A client's own value as Python writes it, in 100 characters at most."""
    return cut(_SHORT.repr(value))


def cut(text: str, most: int = _MOST_SHOWN) -> str:
    """The first `most` characters of `text`."""
    return text if len(text) <= most else text[: most - 3] + "..."


class WorkerError(Exception):
    """A request that cannot be served; `counted` once its outcome stands in the metrics."""

    status = 500
    kind = "server_error"
    code = "internal_error"
    outcome: Outcome = "error"
    retry_after: int | None = None  # seconds, where the same request may succeed later

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(cut(message, _MOST_MESSAGE))
        self.param = param
        self.counted = False

    def headers(self) -> dict[str, str]:
        """Headers of the answer beside its type and length."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}

    def body(self) -> dict[str, object]:
        """The OpenAI error body: `{"error": {message, type, param, code}}`."""
        return {
            "error": {
                "message": str(self),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }


class Invalid(WorkerError):
    """The request asks for something that does not exist or cannot be."""

    status, kind, code = 400, "invalid_request_error", "invalid_value"
    outcome: Outcome = "rejected"


class MalformedRequest(Invalid):
    """The body is not JSON or not of the documented shape."""

    status, code = 422, "malformed_request"


class NotFound(Invalid):
    """There is nothing under this path or name."""

    status, code = 404, "not_found"


class NotAllowed(Invalid):
    """The path is there, the method is not."""

    status, code = 405, "method_not_allowed"


class BodyTooLarge(Invalid):
    """The body has more bytes than any request needs."""

    status, code = 413, "request_too_large"


class TooLong(Invalid):
    """Prompt and answer do not fit into the context or into the KV cache."""

    code = "context_length_exceeded"


class Unauthorized(Invalid):
    """No bearer key, or none of API_KEYS."""

    status, code = 401, "invalid_api_key"


class QueueFull(WorkerError):
    """Every place in the queue is taken."""

    status, kind, code = 429, "rate_limit_error", "queue_full"
    outcome: Outcome = "rejected"
    retry_after = 1


class TooMany(Invalid):
    """More prompts in one request than the worker can hold when it is empty."""

    code = "too_many_prompts"


class EngineFailed(WorkerError):
    """The engine gave up on this request."""

    code = "engine_failed"


class EngineStopped(WorkerError):
    """The engine is dead or the worker is shutting down; nothing is accepted any more."""

    status, code = 503, "engine_stopped"
    retry_after = 5


class Exhausted(WorkerError):
    """The worker has not what the request takes: a thread, or memory."""

    status, code = 503, "out_of_resources"
    retry_after = 5

    def __init__(self, lack: str) -> None:
        super().__init__(f"the worker has no {lack} left for this request: try again later")


class TimedOut(WorkerError):
    """REQUEST_TIMEOUT passed before the answer was complete."""

    status, kind, code = 504, "timeout_error", "request_timeout"
    outcome: Outcome = "timeout"


def outcome_of(error: BaseException | None) -> Outcome:
    """The outcome that a request ends with when `error` ends it (None: it ended well)."""
    if error is None:
        return "success"
    if isinstance(error, WorkerError):
        return error.outcome
    return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "error"
