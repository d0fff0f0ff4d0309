"""Which address is probed, and which ones never are."""

import asyncio
import errno
import ipaddress
import socket
import time
from collections.abc import Sequence

import pytest

from tocsin_exporter.lookup import Address, Lookup
from tocsin_exporter.probes.addresses import (
    Resolver,
    checked_address,
    choose,
    ip_hash,
    refused,
    split_port,
)
from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.modules import HttpProbe, IpChoice, ProbeModule
from tocsin_exporter.probes.prober import NotProbed, run_probe

V4: Address = (socket.AF_INET, ("192.0.2.1", 0))
V6: Address = (socket.AF_INET6, ("2001:db8::1", 0, 0, 0))


def resolving(*answers: Address) -> Resolver:
    return Resolver(lambda owner: Lookup(owner, lambda _: answers))


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
def test_link_local_and_metadata_are_refused_however_written(address: str) -> None:
    assert refused(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "8.8.8.8"])
def test_others_are_not(address: str) -> None:
    assert refused(ipaddress.ip_address(address)) == ""


@pytest.mark.parametrize(
    ("choice", "answers", "chosen"),
    [
        (IpChoice(), (V4, V6), V6),
        (IpChoice(), (V4,), V4),
        (IpChoice("ip4"), (V6, V4), V4),
        (IpChoice("ip4"), (V6,), V6),
        (IpChoice("ip6", fallback=False), (V4,), None),
        (IpChoice("ip4", fallback=False), (V4, V6), V4),
    ],
)
async def test_one_address_is_chosen(
    choice: IpChoice, answers: Sequence[Address], chosen: Address | None
) -> None:
    found = Findings(time.monotonic)
    if chosen is None:
        with pytest.raises(ProbeFailed, match="no address of ip6"):
            await choose("x.test", choice, resolving(*answers), found)
    else:
        assert await choose("x.test", choice, resolving(*answers), found) == chosen
        assert found.get("probe_ip_protocol") == (4 if chosen is V4 else 6)


def test_the_hash_is_gos() -> None:
    # FNV-1a of 4 zero-free bytes, by the reference of its authors: "foobar" is 0xbf9cf968.
    assert ip_hash(ipaddress.ip_address("127.0.0.1")) == 3668918509  # blackbox_exporter's own


@pytest.mark.parametrize("literal", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
async def test_a_literal_is_checked(literal: str) -> None:
    with pytest.raises(ProbeFailed, match="never probed"):
        await checked_address(literal.strip("[]"), IpChoice(), Resolver())


async def _redirecting(location: str) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest", "//169.254.169.254/", "http://[::ffff:a9fe:a9fe]/"],
)
async def test_a_redirect_is_checked_too(location: str) -> None:
    server, port = await _redirecting(location)
    module = ProbeModule("m", HttpProbe())
    result = await run_probe(f"http://127.0.0.1:{port}", module, 5, Resolver(), time.monotonic)
    server.close()
    assert not result.success and "never probed" in result.lines[-1]


async def test_a_name_that_changes_after_it_was_checked_gains_nothing() -> None:
    """Its first answer is looked at, and connected to; nobody asks again."""
    server, port = await _redirecting("/again")
    asked = []

    def rebinding(host: str) -> Sequence[Address]:
        asked.append(host)
        return [(socket.AF_INET, ("127.0.0.1" if len(asked) == 1 else "169.254.169.254", 0))]

    resolver = Resolver(lambda owner: Lookup(owner, rebinding))
    module = ProbeModule("m", HttpProbe(follow_redirects=False, valid_status_codes=(302,)))
    result = await run_probe(f"http://evil.test:{port}", module, 5, resolver, time.monotonic)
    server.close()
    assert result.success and asked == ["evil.test"]


async def test_what_the_lookup_lacks_says_nothing_of_the_target() -> None:
    def lacking(host: str) -> Sequence[Address]:
        raise OSError(errno.EMFILE, "Too many open files")

    resolver = Resolver(lambda owner: Lookup(owner, lacking))
    module = ProbeModule("m", HttpProbe())
    with pytest.raises(NotProbed, match="Too many open files"):
        await run_probe("http://a.test/", module, 5, resolver, time.monotonic)


async def test_a_name_that_is_unknown_is_a_finding() -> None:
    def unknown(host: str) -> Sequence[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolver = Resolver(lambda owner: Lookup(owner, unknown))
    module = ProbeModule("m", HttpProbe())
    result = await run_probe("http://a.test/", module, 5, resolver, time.monotonic)
    assert not result.success and "a.test has no address" in result.lines[-1]


@pytest.mark.parametrize(
    ("target", "split"),
    [("a:1", ("a", 1)), ("[::1]:22", ("::1", 22)), ("a", None), ("a:x", None), ("::1:22", None),
     ("a:70000", None)],
)  # fmt: skip
def test_host_and_port(target: str, split: tuple[str, int] | None) -> None:
    if split is None:
        with pytest.raises(ProbeFailed):
            split_port(target)
    else:
        assert split_port(target) == split
