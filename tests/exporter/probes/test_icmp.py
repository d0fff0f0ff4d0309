"""Pings: what is a reply to ours, and what is said where none is permitted."""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.pings import permitted
from tocsin_exporter.probes.addresses import Resolver
from tocsin_exporter.probes.icmp import NOT_PERMITTED, Pinger
from tocsin_exporter.probes.modules import IcmpProbe, ProbeModule
from tocsin_exporter.probes.prober import run_probe

ADDRESS = (socket.AF_INET, ("127.0.0.1", 0))


def pinger(raw: bool, opened: socket.socket) -> Pinger:
    return Pinger(opened, ADDRESS, raw, identifier=7, payload=b"12345678")


def reply(sequence: int, identifier: int = 7, kind: int = 0, data: bytes = b"12345678") -> bytes:
    return struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + data


IP_HEAD = bytes([0x45, *[0] * 7, 61, *[0] * 11])


@pytest.mark.parametrize(
    ("data", "peer", "raw", "sequence"),
    [
        (reply(9), "127.0.0.1", False, 9),
        (reply(9, identifier=8), "127.0.0.1", False, 9),  # the kernel's own identifier
        (IP_HEAD + reply(9), "127.0.0.1", True, 9),
        (IP_HEAD + reply(9, identifier=8), "127.0.0.1", True, None),
        (IP_HEAD + reply(9, kind=8), "127.0.0.1", True, None),  # our own request, on loopback
        (reply(9, kind=3), "127.0.0.1", False, None),
        (reply(9), "127.0.0.2", False, None),
        (reply(9, data=b"another's"), "127.0.0.1", False, None),
        (b"\x00", "127.0.0.1", False, None),
        (b"", "127.0.0.1", True, None),
    ],
)
def test_what_is_a_reply(data: bytes, peer: str, raw: bool, sequence: int | None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        assert pinger(raw, opened).sequence_of(data, peer) == sequence


def test_the_checksum_of_a_packet_sums_to_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        packet = pinger(False, opened).packet(1)
    words = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    assert words == 0xFFFF and packet[:1] == b"\x08"


@pytest.mark.skipif(not permitted(), reason="neither ping_group_range nor CAP_NET_RAW")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_this_machine_answers(address: str) -> None:
    module = ProbeModule("icmp", IcmpProbe(payload_size=100))
    result = await run_probe(address, module, 5, Resolver(), time.monotonic)
    named = {(s.family.name, dict(s.labels).get("phase")): s.value for s in result.samples}
    if not result.success and ":" in address:
        pytest.skip("no IPv6 here")
    assert result.success, result.lines
    assert 0 < named["probe_icmp_duration_seconds", "rtt"] < 1


_AS_NOBODY = """
import asyncio, fcntl, os, socket, struct, time
from tocsin_exporter.probes.addresses import Resolver
from tocsin_exporter.probes.icmp import open_pinger
from tocsin_exporter.probes.modules import IcmpProbe, ProbeModule
from tocsin_exporter.probes.prober import run_probe
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lo:
    fcntl.ioctl(lo, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
with open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
    file.write("0 65534")
os.setgroups([]); os.setgid(65534); os.setuid(65534)
module = ProbeModule("icmp", IcmpProbe())
result = asyncio.run(run_probe("127.0.0.1", module, 5, Resolver(), time.monotonic))
pinger = open_pinger((socket.AF_INET, ("127.0.0.1", 0)), IcmpProbe())
print(os.getuid(), result.success, pinger.raw)
"""


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None,
    reason="only root has a network of its own, by unshare",
)
def test_without_root_where_the_group_may() -> None:
    """In a network namespace, whose ping_group_range lets nobody's group ping."""
    command = ["unshare", "-n", sys.executable, "-c", _AS_NOBODY]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "unshare failed" in ended.stderr:
        pytest.skip("no network namespace may be made here")
    assert ended.stdout == "65534 True False\n", ended.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not")
def test_where_nothing_permits_it_it_says_what_to_do() -> None:
    ranges = Path("/proc/sys/net/ipv4/ping_group_range").read_text().split()
    if int(ranges[0]) <= 65534 <= int(ranges[1]):
        pytest.skip("everybody may ping here")
    program = (
        "import os, socket; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from tocsin_exporter.probes.icmp import open_pinger\n"
        "from tocsin_exporter.probes.modules import IcmpProbe\n"
        f"open_pinger({(2, ('127.0.0.1', 0))!r}, IcmpProbe())"
    )
    preload = f"import tocsin_exporter.probes.icmp\n{program}"
    ended = subprocess.run([sys.executable, "-c", preload], capture_output=True, text=True)
    assert ended.returncode and NOT_PERMITTED in ended.stderr
