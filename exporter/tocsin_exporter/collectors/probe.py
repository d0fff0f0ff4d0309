"""A probe on a schedule: what it found is one source, as a Prometheus that scrapes
blackbox_exporter holds it."""

import logging
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from tocsin_exporter.collectors.collector import Unread
from tocsin_exporter.probes.loop import ProbeLoop
from tocsin_exporter.probes.modules import IcmpProbe, ProbeModule
from tocsin_exporter.probes.prober import NotProbed, ProbeResult
from tocsin_exporter.probes.smokeping import Pings
from tocsin_exporter.snapshot import Labels, Sample

log = logging.getLogger(__name__)

MOST_LEAVES = 50  # certificates of one target: a server may show another one each time
_LEAF = "probe_ssl_last_chain_info"


class ProbeCollector:
    """`seconds` is the time of a probe. A target of ICMP is pinged each second as well."""

    name = "probe"

    def __init__(self, loop: ProbeLoop, target: str, module: ProbeModule, seconds: float) -> None:
        self.target, self.module = target, module
        self._loop, self._seconds = loop, seconds
        self._leaves: set[Labels] = set()
        self._dropped = 0
        self._failing = False
        self._pings: Pings | None = None

    async def collect(self) -> Sequence[Sample]:
        """Raises Unread where we could not ask."""
        try:
            self._begin_pings()
            result = await self._loop.probe(self.target, self.module, self._seconds)
        except NotProbed as error:
            raise Unread(str(error)) from None
        self._tell(result)
        pings = self._pings.samples() if self._pings is not None else ()
        return [*filter(self._is_bounded, result.samples), *pings]

    @property
    def path(self) -> str:
        """Where the same can be asked for."""
        return "/probe?" + urlencode({"target": self.target, "module": self.module.name})

    @property
    def dropped(self) -> Mapping[str, int]:
        return {_LEAF: self._dropped} if self._dropped else {}

    def close(self) -> None:
        if self._pings is not None:
            self._pings.close()

    def _begin_pings(self) -> None:
        if self._pings is None and isinstance(self.module.probe, IcmpProbe):
            self._pings = Pings(self._loop, self.target, self.module.probe)

    def _tell(self, result: ProbeResult) -> None:
        """A line for the first failure, and for the end of it."""
        about = {"target": self.target, "probe": self.module.name}
        if self._failing == result.success:
            if result.success:
                log.info("probe recovered", extra=about)
            else:
                log.warning("probe failed: %s", result.why, extra=about)
        self._failing = not result.success

    def _is_bounded(self, sample: Sample) -> bool:
        if sample.family.name != _LEAF or sample.labels in self._leaves:
            return True
        if len(self._leaves) >= MOST_LEAVES:
            self._dropped += 1
            return False
        self._leaves.add(sample.labels)
        return True
