"""What a request carries, never more of it in memory than it may be."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request

from tocsin_alerting.api.http.envelope import ApiError

BODY_SECONDS = 30.0


async def read_object(request: Request, most_bytes: int) -> Mapping[str, Any]:
    """The JSON object that was sent; an empty body is an empty object. Raises ApiError."""
    content = await read_body(request, most_bytes)
    try:
        data = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError as error:
        raise ApiError("bad_data", f"request body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ApiError("bad_data", "request body is not a JSON object")
    return data


async def read_body(request: Request, most_bytes: int, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body. Raises ApiError when it is longer than `most_bytes`, or does not come."""
    read = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                read += chunk
                if len(read) > most_bytes:
                    why = f"request body is longer than {most_bytes >> 10} KiB"
                    raise ApiError("too_large", why)
    except TimeoutError:
        raise ApiError("timeout", f"request body not received within {seconds:g} s") from None
    return bytes(read)
