"""From a name to a connection: addresses from the system's resolver, then the first that answers.

The resolver blocks, for half a minute and more where a name server says nothing, and the event loop
has four threads for it. So whoever reaches out has a thread of its own for that: a name that hangs
holds up nobody but those who ask for the same.
"""

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import chain, zip_longest
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from tocsin_exporter.threads import Threads, result_of

Address: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]
"""Family and socket address, as the resolver gives it; its port is 0."""
Resolve: TypeAlias = Callable[[str], Sequence[Address]]

# Descriptors, memory, local ports, threads; EBUSY: the resolver failed for what it does not tell.
LACKS = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, socket.EAI_MEMORY),
        *(errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EBUSY),
    }
)
"""Numbers of an OSError that tell what we ourselves lack, and nothing of whoever is asked."""
NEXT_SECONDS = 0.25  # RFC 8305, "Connection Attempt Delay"


def resolve(host: str, ask: Callable[..., Any] | None = None) -> Sequence[Address]:
    """Blocks; `ask` is as getaddrinfo. Raises OSError for a name that has no address, with a number
    of LACKS where the resolver could not ask."""
    try:
        _try_descriptor()
        named = (ask or socket.getaddrinfo)(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty, or longer than 63 characters
        raise OSError(f"{host[:100]} cannot be a name") from None
    except OSError as error:
        if (lack := _lack(error)) is None:
            raise
        raise OSError(lack.errno, f"{host} cannot be looked up: {lack.strerror}") from error
    return [(family, address) for family, _, _, _, address in named]


def _try_descriptor() -> None:
    """Raises OSError where none can be had. Of a file that it cannot open the resolver says EMFILE,
    EBUSY, EINVAL, or that the name is not known, by what it has read before."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno in LACKS:
            raise


def _lack(error: OSError) -> OSError | None:
    """What we lacked when a lookup failed with `error`; None where the resolver could ask."""
    if error.errno in LACKS - {errno.EBUSY}:
        return error
    try:
        _try_descriptor()
    except OSError as lack:
        return lack
    if isinstance(error, socket.gaierror):
        return None
    return OSError(errno.EBUSY, error.strerror)  # its number may be that of another call


class Lookup:
    """The names that one owner asks for: each is looked up once at a time, and one after the other.

    `owner` names the thread, which begins when it is first needed, or by `begin`.
    """

    def __init__(self, owner: str, resolve: Resolve = resolve) -> None:
        self.threads = Threads(1, f"lookup {owner}")
        self._resolve = resolve
        self._running: dict[str, Future[Sequence[Address]]] = {}

    def begin(self, host: str) -> None:
        """Its thread now, if `host` needs one; raises RuntimeError where it cannot be had."""
        if _literal(host) is None:
            self.threads.begin()

    async def addresses(self, host: str) -> Sequence[Address]:
        """Raises OSError for a name without an address, and where there is no thread to ask on.

        An address needs no lookup. A lookup goes on when those who wait for it have gone: who asks
        for the name meanwhile waits for the same.
        """
        if literal := _literal(host):
            return [literal]
        running = self._running.get(host)
        if running is None:
            try:
                running = self.threads.submit(self._resolve, host)
            except RuntimeError:
                raise OSError(errno.EAGAIN, f"no thread to look up {host}") from None
            self._running[host] = running
            running.add_done_callback(lambda _: self._running.pop(host, None))
        return await result_of(running)

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connection to the first address that answers; the next is tried as well when one has
        failed, or has not answered in 250 ms. Raises as `addresses`; OSError where none answers."""
        addresses = await self.addresses(host)
        return await _first(
            [(family, (at[0], port, *at[2:])) for family, at in interleaved(addresses)]
        )


_engines: dict[str, Lookup] = {}


def engine_lookup(url: str) -> Lookup:
    """The one for engines on the host of `url`, however many clients ask them."""
    host = urlsplit(url).hostname or ""
    return _engines.setdefault(host, Lookup(host))


def _literal(host: str) -> Address | None:
    """`host` where it is an address already, of IPv6 with its zone where it has one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return socket.AF_INET, (host, 0)
    plain, _, zone = host.partition("%")
    try:
        scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone) if zone else 0
    except OSError:  # there is no such interface: the resolver says so
        return None
    return socket.AF_INET6, (plain, 0, 0, scope)


def interleaved(addresses: Sequence[Address]) -> Sequence[Address]:
    """The families in turn, that of the first address first: a whole family may be cut off."""
    if not addresses:
        return []
    same = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return [
        address for address in chain.from_iterable(zip_longest(same, others)) if address is not None
    ]


async def _first(addresses: Sequence[Address]) -> socket.socket:
    waiting, failed = list(addresses), list[BaseException]()
    running: set[asyncio.Task[socket.socket]] = set()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_open(*waiting.pop(0))))
            patience = NEXT_SECONDS if waiting else None
            await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for ended in [task for task in running if task.done()]:
                running.remove(ended)
                if (error := ended.exception()) is None:
                    return ended.result()
                failed.append(error)
    finally:
        for task in running:
            if not task.cancel() and task.exception() is None:
                task.result().close()
    if len(failed) == 1:
        raise failed[0]
    raise OSError("no address answers") from BaseExceptionGroup("each address", failed)


async def _open(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        await _connect(opened, address)
    except BaseException:  # why: also when cancelled, the socket is not left open
        opened.close()
        raise
    return opened


async def _connect(opened: socket.socket, address: tuple[Any, ...]) -> None:
    """As the loop's own, which loses the zone of an address with uvloop."""
    loop = asyncio.get_running_loop()
    if opened.family != socket.AF_INET6 or not any(address[3:]):
        await loop.sock_connect(opened, address)
        return
    if (begun := opened.connect_ex(address)) not in (0, errno.EINPROGRESS):
        raise OSError(begun, os.strerror(begun))
    writable = asyncio.Event()
    loop.add_writer(opened, writable.set)
    try:
        await writable.wait()
    finally:
        loop.remove_writer(opened)
    if failed := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(failed, os.strerror(failed))
