"""Latency and loss of a target: a ping each second, under smokeping_prober's names.

The loss is 1 - rate(smokeping_response_duration_seconds_count) / rate(smokeping_requests_total).
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import Future

from tocsin_exporter.catalogue import PROBES
from tocsin_exporter.catalogue.probes import PING_SECONDS
from tocsin_exporter.probes.addresses import checked_address
from tocsin_exporter.probes.findings import ProbeFailed
from tocsin_exporter.probes.icmp import Pinger, open_pinger, readable
from tocsin_exporter.probes.loop import ProbeLoop
from tocsin_exporter.probes.modules import IcmpProbe
from tocsin_exporter.snapshot import Labels, Sample, sorted_labels

log = logging.getLogger(__name__)

EACH_SECONDS = 1.0
RESOLVE_SECONDS = 300.0  # then its address is looked up again
RETRY_SECONDS = 15.0
_PATIENCE_SECONDS = 60.0  # a reply that comes later is none
_REQUESTS = PROBES["smokeping_requests_total"]
_RESPONSES = PROBES["smokeping_response_duration_seconds"]


class PingCounts:
    """What was sent to one address, and what came back. Only the thread of probes writes it."""

    def __init__(self) -> None:
        self.requests = self.responses = 0
        self.seconds = 0.0
        self._buckets = [0] * (len(PING_SECONDS) + 1)

    def replied(self, seconds: float) -> None:
        self._buckets[bisect_left(PING_SECONDS, seconds)] += 1
        self.seconds += seconds
        self.responses += 1

    def samples(self, own: Labels) -> Iterator[Sample]:
        yield Sample(_REQUESTS, self.requests, own)
        below, named = 0, dict(own)
        for bound, count in zip((*PING_SECONDS, float("inf")), self._buckets, strict=True):
            below += count
            le = "+Inf" if bound == float("inf") else repr(bound)
            yield Sample(_RESPONSES, below, sorted_labels({**named, "le": le}), "_bucket")
        yield Sample(_RESPONSES, self.seconds, own, "_sum")
        yield Sample(_RESPONSES, below, own, "_count")


class Pings:
    """Pings `target` until it is closed; one whose name or socket fails is tried again later."""

    def __init__(self, loop: ProbeLoop, target: str, probe: IcmpProbe) -> None:
        self._loop, self._target, self._probe = loop, target.strip("[]"), probe
        self._ip, self._counts = "", PingCounts()
        self._said = ""
        self._running: Future[None] = loop.begin(self._run())

    def samples(self) -> list[Sample]:
        """Of the address that is pinged now; nothing before the first ping."""
        if not self._counts.requests:
            return []
        source = self._probe.source_ip_address
        named = {"ip": self._ip, "host": self._target, "source": source, "tos": "0"}
        return [*self._counts.samples(sorted_labels(named))]

    def close(self) -> None:
        self._running.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._session()
            except (ProbeFailed, OSError) as error:
                if str(error) != self._said:
                    log.warning("failed to ping: %s", error, extra={"target": self._target})
                self._said = str(error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _session(self) -> None:
        """Pings to one address, for as long as that is taken to be its."""
        address = await checked_address(self._target, self._probe.family, self._loop.resolver)
        pinger = open_pinger(address, self._probe)
        if (ip := str(address[1][0])) != self._ip:
            self._ip, self._counts = ip, PingCounts()
        sent: dict[int, float] = {}
        receiving = asyncio.ensure_future(self._receive(pinger, sent))
        try:
            until = self._loop.monotonic() + RESOLVE_SECONDS
            while self._loop.monotonic() < until:
                self._send(pinger, sent)
                await asyncio.sleep(EACH_SECONDS)
        finally:
            receiving.cancel()
            pinger.close()

    def _send(self, pinger: Pinger, sent: dict[int, float]) -> None:
        """A ping that cannot be sent (there is no route) is lost."""
        now = self._loop.monotonic()
        for sequence in [one for one, at in sent.items() if now - at > _PATIENCE_SECONDS]:
            del sent[sequence]
        self._counts.requests += 1
        sequence = self._counts.requests & 0xFFFF
        sent[sequence] = now
        try:
            pinger.send(sequence)
        except OSError as error:
            if str(error) != self._said:
                log.warning("failed to send a ping: %s", error, extra={"target": self._target})
            self._said = str(error)

    async def _receive(self, pinger: Pinger, sent: dict[int, float]) -> None:
        while True:
            await readable(pinger.opened)
            for sequence, age, _ in pinger.replies():
                at = sent.pop(sequence, None)
                if at is not None:  # the second reply to one ping counts as none
                    waited = self._loop.monotonic() - at
                    self._counts.replied(max(0.0, waited - min(age, waited)))
