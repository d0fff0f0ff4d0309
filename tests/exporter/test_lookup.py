"""Names and connections: one lookup of a name at a time, each owner's own, and every address."""

import asyncio
import errno
import ipaddress
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest
import uvloop

from support.exhausted import no_descriptors, no_threads
from support.hanging_names import DOMAIN, hanging_names
from tocsin_exporter.engine_access import EngineAccess, EngineClient
from tocsin_exporter.lookup import Address, Lookup, engine_lookup, interleaved, resolve

HANGS = """
import asyncio, time
from tocsin_exporter.lookup import Lookup
async def ask():
    async with asyncio.timeout(0.1):
        await Lookup("engine", lambda host: time.sleep(600)).addresses("a.example")
try:
    asyncio.run(ask())
except TimeoutError:
    print("late")
"""

FIRST = """
import os, resource
from tocsin_exporter.lookup import resolve
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1,) * 2)
try:
    resolve("localhost")
except OSError as error:
    print(error.errno)
"""


def _v4(last: int) -> Address:
    return socket.AF_INET, (f"127.0.0.{last}", 0)


async def test_of_a_name_one_lookup_is_in_flight_and_all_who_ask_wait_for_it() -> None:
    free, asked = threading.Event(), Counter[str]()

    def slow(host: str) -> list[Address]:
        asked[host] += 1
        free.wait(30)
        return [_v4(asked[host])]

    lookup = Lookup("hook", slow)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await lookup.addresses("a.example")
    waiting = [asyncio.create_task(lookup.addresses("a.example")) for _ in range(3)]
    await asyncio.sleep(0)
    free.set()
    assert await asyncio.gather(*waiting) == [[_v4(1)]] * 3
    assert asked == {"a.example": 1}
    assert await lookup.addresses("a.example") == [_v4(2)]


async def test_an_address_needs_no_lookup_and_no_thread() -> None:
    def refused(host: str) -> list[Address]:
        raise AssertionError(host)

    lookup = Lookup("hook", refused)
    with no_threads():
        assert await lookup.addresses("127.0.0.1") == [(socket.AF_INET, ("127.0.0.1", 0))]
        assert await lookup.addresses("::1") == [(socket.AF_INET6, ("::1", 0, 0, 0))]
        assert await lookup.addresses("fe80::1%1") == [(socket.AF_INET6, ("fe80::1", 0, 0, 1))]


async def test_without_a_thread_it_says_what_we_lack() -> None:
    with no_threads(), pytest.raises(OSError, match="no thread to look up localhost") as lacks:
        await Lookup("hook").addresses("localhost")
    assert lacks.value.errno == errno.EAGAIN


def test_without_a_descriptor_it_says_so_whatever_the_resolver_says() -> None:
    """One that has read its files before says "Invalid argument"."""
    resolve("localhost")
    with no_descriptors():
        with pytest.raises(OSError, match="localhost cannot be looked up: Too many") as lacks:
            resolve("localhost")
    assert lacks.value.errno == errno.EMFILE


UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("error", [UNKNOWN, OSError(errno.EBUSY, "x"), OSError(errno.EINVAL, "x")])
def test_descriptors_that_are_taken_while_a_name_is_looked_up_are_what_we_lack(
    error: OSError,
) -> None:
    """The engine was down: its name was "not known"."""
    with ExitStack() as taken:

        def fails(*_: object, **__: object) -> NoReturn:
            taken.enter_context(no_descriptors())
            raise error

        with pytest.raises(OSError) as lacks:
            resolve("a.example", fails)
    assert lacks.value.errno == errno.EMFILE


def test_descriptors_that_come_back_while_a_name_is_looked_up_were_what_we_lacked() -> None:
    with ExitStack() as taken:
        taken.enter_context(no_descriptors())

        def fails(*_: object, **__: object) -> NoReturn:
            taken.close()
            raise UNKNOWN

        with pytest.raises(OSError) as lacks:
            resolve("a.example", fails)
    assert lacks.value.errno == errno.EMFILE


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (UNKNOWN, socket.EAI_NONAME),
        (socket.gaierror(socket.EAI_AGAIN, "later"), socket.EAI_AGAIN),
        (socket.gaierror(socket.EAI_MEMORY, "memory"), socket.EAI_MEMORY),
        (OSError(errno.ENFILE, "many"), errno.ENFILE),
        (OSError(errno.ECONNREFUSED, "of another call"), errno.EBUSY),
    ],
)
def test_a_name_that_is_not_known_is_told_from_what_we_lack(error: OSError, number: int) -> None:
    def fails(*_: object, **__: object) -> NoReturn:
        raise error

    with pytest.raises(OSError, match=error.strerror) as said:
        resolve("a.example", fails)
    assert said.value.errno == number


def test_a_resolver_that_never_read_its_files_says_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST], check=True, timeout=30, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (f"{errno.EMFILE}\n", "")


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "a..example", "nobody.invalid"])
async def test_what_is_no_name_is_an_error_of_the_system(name: str) -> None:
    with pytest.raises(OSError):
        await Lookup("hook").connect(name, 80)


async def test_the_next_address_is_tried_where_one_refuses() -> None:
    with socket.create_server(("127.0.0.3", 0)) as server:
        port = server.getsockname()[1]
        addresses = [_v4(2), (socket.AF_INET6, ("::1", 0, 0, 0)), _v4(3)]
        opened = await Lookup("hook", lambda host: addresses).connect("a.example", port)
        with opened:
            assert opened.getpeername() == ("127.0.0.3", port)


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    """A listener whose queue is full drops what knocks."""
    with socket.socket() as silent, socket.socket() as heard:
        silent.bind(("127.0.0.2", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        heard.bind(("127.0.0.3", port))
        heard.listen()
        knocking = [socket.socket() for _ in range(4)]
        for one in knocking:
            one.setblocking(False)
            one.connect_ex(silent.getsockname())
        async with asyncio.timeout(20):
            opened = await Lookup("hook", lambda host: [_v4(2), _v4(3)]).connect("a.example", port)
        with opened:
            assert opened.getpeername()[0] == "127.0.0.3"
        for one in knocking:
            one.close()


def test_the_families_are_tried_in_turn_for_a_whole_one_may_be_cut_off() -> None:
    v6 = [(socket.AF_INET6, (f"fd00::{last}", 0, 0, 0)) for last in (1, 2)]
    v4 = [_v4(last) for last in (1, 2, 3)]
    assert interleaved([*v6, *v4]) == [v6[0], v4[0], v6[1], v4[1], v4[2]]
    assert interleaved([*v4, *v6]) == [v4[0], v6[0], v4[1], v6[1], v4[2]]
    assert interleaved([]) == []


async def test_where_all_refuse_the_error_says_why(unused_tcp_port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        await Lookup("hook", lambda host: [_v4(2)]).connect("a.example", unused_tcp_port)
    with pytest.raises(OSError, match="no address answers") as refused:
        await Lookup("hook", lambda host: [_v4(2), _v4(3)]).connect("a.example", unused_tcp_port)
    assert isinstance(refused.value.__cause__, ExceptionGroup)
    assert len(refused.value.__cause__.exceptions) == 2


def test_engines_on_one_host_share_a_lookup_however_many_clients_there_are() -> None:
    assert engine_lookup("http://a.example:1") is engine_lookup("https://A.example:2/v1")
    assert engine_lookup("http://a.example:1") is not engine_lookup("http://b.example:1")


async def test_names_of_engines_that_hang_hold_up_no_other_engine() -> None:
    """Each ask took one of the few threads that all lookups shared."""
    with hanging_names() as asked, socket.create_server(("127.0.0.1", 0)) as server:
        for number in range(3):
            for _ in range(6):
                access = EngineAccess.of(f"http://e{number}{DOMAIN}:8000")
                client = EngineClient(access)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await client.get("/health")
                await client.aclose()
        client = EngineClient(EngineAccess.of(f"http://localhost:{server.getsockname()[1]}"))
        asking = asyncio.create_task(client.get("/health"))
        server.settimeout(20)
        reached, _ = await asyncio.wait_for(_accepted(server), 30)
        with reached:
            reached.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            assert (await asking).ok
        await client.aclose()
    assert asked == {f"e{number}{DOMAIN}": 1 for number in range(3)}


async def _accepted(server: socket.socket) -> tuple[socket.socket, object]:
    """On a thread of its own: those of the loop are what is tried here."""
    accepted: list[tuple[socket.socket, object]] = []
    thread = threading.Thread(target=lambda: accepted.append(server.accept()), daemon=True)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)
    return accepted[0]


def test_a_process_ends_while_a_name_hangs() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGS], check=True, timeout=30, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("late\n", "") and time.monotonic() - began < 20


def _link_local() -> tuple[str, str]:
    """An address of this machine that needs a zone, and its interface."""
    lines = Path("/proc/net/if_inet6").read_text().splitlines()
    for digits, *_, name in (line.split() for line in lines):
        if digits.startswith("fe80"):
            return str(ipaddress.IPv6Address(bytes.fromhex(digits))), name
    pytest.skip("no link-local address here")


def test_a_link_local_address_is_reached_on_the_loop_of_the_agent() -> None:
    """uvloop loses the zone, without which the kernel refuses such an address."""
    address, name = _link_local()
    zone = socket.if_nametoindex(name)

    async def story() -> None:
        with socket.socket(socket.AF_INET6) as server:
            server.bind((address, 0, 0, zone))
            port = server.getsockname()[1]
            with pytest.raises(ConnectionRefusedError):
                await Lookup("x").connect(f"{address}%{name}", port)
            server.listen()
            for written in (name, zone):
                connected = await Lookup("x").connect(f"{address}%{written}", port)
                assert connected.getpeername()[:2] == (address, port)
                connected.close()

    uvloop.run(asyncio.wait_for(story(), 10))
