"""What a request carries, never more of it in memory than it may be."""

import asyncio

from starlette.requests import Request

from tocsin_alerting.api.http.envelope import ApiError

BODY_SECONDS = 30.0


async def read_body(request: Request, most_bytes: int, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body. Raises ApiError when it is longer than `most_bytes`, or does not come."""
    read = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                read += chunk
                if len(read) > most_bytes:
                    why = f"the body is longer than {most_bytes >> 10} KiB"
                    raise ApiError("too_large", why)
    except TimeoutError:
        raise ApiError("timeout", f"the body did not come within {seconds:g} s") from None
    return bytes(read)
