"""Clients without manners, over real sockets: each does what it does and says what it was told."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HEAD = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n"
FORM = (
    b"POST /api/v1/query HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nquery="
)
MB = 1_000_000


async def ask(port: int, *pieces: bytes, within: float = 30.0) -> bytes:
    """The answer's status line, although the server may not want to hear all of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(within):
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def long_headers(port: int) -> bytes:
    return await ask(port, HEAD + b"A: ", *[b"x" * MB] * 60)


async def many_headers(port: int) -> bytes:
    return await ask(port, HEAD, *[b"".join(b"h%d: x\r\n" % n for n in range(100_000))] * 60)


async def long_url(port: int) -> bytes:
    return await ask(port, b"GET /api/v1/query?query=", *[b"x" * MB] * 50)


async def long_trailer(port: int) -> bytes:
    chunked = FORM.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")[:-6]
    return await ask(port, chunked + b"1\r\na\r\n0\r\nA: ", *[b"x" * MB] * 60)


async def tiny_chunks(port: int) -> bytes:
    chunked = FORM.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")[:-6]
    return await ask(port, chunked, *[b"1\r\na\r\n" * 50_000] * 20)


async def ask_without_end(port: int, seconds: float) -> int:
    """As many requests at once as the server takes in so many seconds, no answer read; the bytes
    that it took."""
    loop, taken = asyncio.get_running_loop(), 0
    with socket.socket() as one, suppress(ConnectionError, TimeoutError):
        one.setblocking(False)
        await loop.sock_connect(one, ("127.0.0.1", port))
        async with asyncio.timeout(seconds):
            while True:
                await loop.sock_sendall(one, (HEAD + b"\r\n") * 200)
                taken += 200 * (len(HEAD) + 2)
    return taken


async def broken_off(port: int, times: int) -> None:
    """Forms of which the end never comes."""
    for _ in range(times):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(FORM)
        await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def silent(port: int, count: int, said: bytes = b"") -> AsyncIterator[list[socket.socket]]:
    """So many connections on which nothing more is said and nothing read; those that the server
    closed are opened no more."""
    loop = asyncio.get_running_loop()
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            opened.append(one)
            with suppress(ConnectionError):
                await loop.sock_connect(one, ("127.0.0.1", port))
                await loop.sock_sendall(one, said)
        yield opened
    finally:
        for one in opened:
            one.close()


async def asking_again(port: int, path: str, clients: int, seconds: float) -> Counter[bytes]:
    """So many connections, each of which asks the next time as soon as it is answered; how often
    each status came."""
    statuses: Counter[bytes] = Counter()
    raw = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    async def client(until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while time.monotonic() < until:
                writer.write(raw)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length:")[1].split()[0]))
                statuses[head[9:12]] += 1
        finally:
            writer.transport.abort()

    until = time.monotonic() + seconds
    await asyncio.gather(*(client(until) for _ in range(clients)))
    return statuses
