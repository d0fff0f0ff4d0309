"""A probe on a schedule: a failed one is a finding, and what we lack is none."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tocsin_exporter.catalogue import PROBES
from tocsin_exporter.collectors.collector import Unread
from tocsin_exporter.collectors.probe import MOST_LEAVES, ProbeCollector
from tocsin_exporter.probes.loop import ProbeLoop
from tocsin_exporter.probes.modules import IcmpProbe, ProbeModule, TcpProbe
from tocsin_exporter.probes.prober import NotProbed, ProbeResult
from tocsin_exporter.snapshot import Sample, labels

TCP = ProbeModule("tcp", TcpProbe())


@pytest.fixture
def loop() -> Iterator[ProbeLoop]:
    loop = ProbeLoop(time.monotonic)
    yield loop
    loop.close(wait=5)


class Rotating(ProbeLoop):
    """Its server shows another certificate each time."""

    shown = 0

    async def probe(self, target: str, module: ProbeModule, seconds: float) -> ProbeResult:
        self.shown += 1
        leaf = labels(fingerprint_sha256=str(self.shown))
        return ProbeResult(True, [Sample(PROBES["probe_ssl_last_chain_info"], 1, leaf)], [])


class Lacking(ProbeLoop):
    def begin(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        work.close()
        raise NotProbed("can't start new thread")


async def test_one_that_fails_is_a_reading(loop: ProbeLoop) -> None:
    samples = await ProbeCollector(loop, "127.0.0.1:1", TCP, 2).collect()
    assert [s.value for s in samples if s.family.name == "probe_success"] == [0]


class Turning(ProbeLoop):
    """Fails twice, and succeeds twice."""

    asked = 0

    async def probe(self, target: str, module: ProbeModule, seconds: float) -> ProbeResult:
        self.asked += 1
        well = self.asked > 2
        return ProbeResult(well, [], [], "" if well else "connection refused")


async def test_the_log_has_a_line_for_the_first_failure_and_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    collector = ProbeCollector(Turning(time.monotonic), "a:1", TCP, 2)
    for _ in range(4):
        await collector.collect()
    assert caplog.messages == ["probe failed: connection refused", "probe recovered"]


async def test_certificates_without_end_are_bounded_and_counted() -> None:
    collector = ProbeCollector(Rotating(time.monotonic), "a:1", TCP, 2)
    kept = [len(await collector.collect()) for _ in range(MOST_LEAVES + 3)]
    assert sum(kept) == MOST_LEAVES
    assert collector.dropped == {"probe_ssl_last_chain_info": 3}


@pytest.mark.parametrize("probe", [TcpProbe(), IcmpProbe()])
async def test_what_we_lack_says_nothing_of_the_target(probe: TcpProbe | IcmpProbe) -> None:
    module = ProbeModule("m", probe)
    with pytest.raises(Unread, match="new thread"):
        await ProbeCollector(Lacking(time.monotonic), "127.0.0.1:1", module, 2).collect()


async def test_one_too_many_waits_its_time_and_says_so() -> None:
    busy = ProbeLoop(time.monotonic, most=0)
    with pytest.raises(Unread, match="too many probes"):
        await ProbeCollector(busy, "127.0.0.1:1", TCP, 0.05).collect()
    busy.close(wait=5)


async def test_a_thread_that_hangs_holds_nobody_up(loop: ProbeLoop) -> None:
    """Whatever blocks the probes' own loop: the reading is late, and who waits for it goes on."""
    free, begun = threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        free.wait(10)

    loop.begin(block())
    begun.wait(10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ProbeCollector(loop, "127.0.0.1:1", TCP, 2).collect()
    free.set()
    samples = await ProbeCollector(loop, "127.0.0.1:1", TCP, 2).collect()
    assert any(s.family.name == "probe_success" for s in samples)


def test_it_knows_where_the_same_can_be_asked_for() -> None:
    path = ProbeCollector(ProbeLoop(time.monotonic), "http://a/?b=c", TCP, 2).path
    assert path == "/probe?target=http%3A%2F%2Fa%2F%3Fb%3Dc&module=tcp"
