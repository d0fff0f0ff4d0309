"""The envelope of Prometheus's HTTP API, which everything under /api/v1 speaks."""

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.responses import Response

# errorType -> HTTP status: Prometheus's own (web/api/v1/api.go), and what changing needs besides.
HTTP_STATUS = {
    "bad_data": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "execution": 422,
    "too_many_requests": 429,
    "internal": 500,
    "unavailable": 503,
    "timeout": 503,
}


class ApiError(Exception):
    """Ends a request with Prometheus's error body. `type` is a key of STATUS."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type


def success(data: Any, warnings: Sequence[str] = ()) -> Response:
    extra = {"warnings": warnings} if warnings else {}
    return json_response({"status": "success", "data": data} | extra)


def not_on_disk(why: str) -> str:
    """The warning of an answer to what was done and is not durable; `why` may be ""."""
    trouble = why or "the disk is slow"
    return (
        f"done and in force, but not on disk yet: {trouble}. The agent retries the write; if it is"
        " killed before that, the change is lost and must be repeated"
    )


def failure(error: ApiError) -> Response:
    body = {"status": "error", "errorType": error.type, "error": str(error)}
    return json_response(body, HTTP_STATUS[error.type])


def json_response(body: Any, status: int = 200) -> Response:
    text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(text, status, media_type="application/json")
