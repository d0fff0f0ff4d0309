"""Latency and loss under smokeping_prober's names."""

import asyncio
import time

import pytest

from support.pings import permitted
from tocsin_exporter.catalogue.probes import PING_SECONDS
from tocsin_exporter.probes.loop import ProbeLoop
from tocsin_exporter.probes.modules import IcmpProbe, ProbeModule, TcpProbe
from tocsin_exporter.probes.smokeping import PingCounts, Pings

_TCP = ProbeModule("tcp", TcpProbe())


def test_the_buckets_are_smokeping_probers() -> None:
    assert len(PING_SECONDS) == 20
    assert PING_SECONDS[:4] == (5e-05, 0.0001, 0.0002, 0.0004)
    assert PING_SECONDS[-1] == pytest.approx(26.2144)


def test_counts_are_a_histogram() -> None:
    counts = PingCounts()
    counts.requests = 4
    for seconds in (0.00005, 0.0003, 100.0):
        counts.replied(seconds)
    samples = {(s.family.name + s.suffix, dict(s.labels).get("le")): s.value
               for s in counts.samples(())}  # fmt: skip
    name = "smokeping_response_duration_seconds"
    assert samples["smokeping_requests_total", None] == 4
    assert samples[f"{name}_bucket", "5e-05"] == 1
    assert samples[f"{name}_bucket", "0.0004"] == 2
    assert samples[f"{name}_bucket", "+Inf"] == samples[f"{name}_count", None] == 3
    assert samples[f"{name}_sum", None] == pytest.approx(100.00035)


@pytest.mark.skipif(not permitted(), reason="neither ping_group_range nor CAP_NET_RAW")
async def test_this_machine_is_pinged_and_loses_nothing() -> None:
    loop = ProbeLoop(time.monotonic)
    pings = Pings(loop, "127.0.0.1", IcmpProbe())
    async with asyncio.timeout(10):
        while not any(s.suffix == "_count" and s.value for s in pings.samples()):
            await asyncio.sleep(0.01)
    named = dict(pings.samples()[0].labels)
    assert named == {"ip": "127.0.0.1", "host": "127.0.0.1", "tos": "0"}
    pings.close()
    loop.close(wait=5)


async def test_a_target_without_an_address_counts_nothing() -> None:
    loop = ProbeLoop(time.monotonic)
    pings = Pings(loop, "169.254.1.1", IcmpProbe())
    await loop.probe("127.0.0.1:1", _TCP, 1)  # what was begun before has had its turn
    assert pings.samples() == []
    pings.close()
    loop.close(wait=5)
