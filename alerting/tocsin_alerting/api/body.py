"""What a request carries, never more of it in memory than it may be."""

from starlette.requests import Request

from tocsin_alerting.api.answers import ApiError


async def body(request: Request, most_bytes: int) -> bytes:
    """The whole body. Raises ApiError when it is longer than `most_bytes`."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > most_bytes:
            raise ApiError("too_large", f"the body is longer than {most_bytes >> 10} KiB")
    return bytes(read)
