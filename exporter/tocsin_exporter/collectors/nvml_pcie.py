"""How much crosses PCIe: of a GPU without GPM, from its counters, else by the call that waits."""

from collections.abc import Iterator, Mapping

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.nvml_fields import PCIE_RECEIVED, PCIE_SENT
from tocsin_exporter.collectors.nvml_query import BLANK, Aside, GpuQuery
from tocsin_exporter.snapshot import Sample

_FAMILIES = {
    PCIE_SENT: "DCGM_FI_PROF_PCIE_TX_BYTES",
    PCIE_RECEIVED: "DCGM_FI_PROF_PCIE_RX_BYTES",
}


class PcieThroughput:
    """One a GPU. nvmlDeviceGetPcieThroughput measures for 20 ms a direction: it has a thread of
    its own, and what it said is shown in the next round."""

    def __init__(self, index: int) -> None:
        self._aside: Aside[dict[int, float]] = Aside(f"pcie {index}")
        self._before: tuple[float, Mapping[int, float]] = (0.0, {})

    def samples(self, query: GpuQuery, counters: Mapping[int, float]) -> Iterator[Sample]:
        """`counters` are the bytes so far, by field; empty where the GPU has none."""
        rates = self._rates(query.now, counters) if counters else self._measured(query)
        for field, rate in rates.items():
            yield Sample(GPU[_FAMILIES[field]], rate, query.labels.dcgm)

    def _rates(self, now: float, counters: Mapping[int, float]) -> dict[int, float]:
        (then, before), self._before = self._before, (now, dict(counters))
        if now <= then:
            return {}
        grown = {n: counters[n] - before[n] for n in counters if n in before}
        return {n: more / (now - then) for n, more in grown.items() if more >= 0}

    def _measured(self, query: GpuQuery) -> dict[int, float]:
        if query.absences.has("pcie throughput", query.now):
            return {}
        rates = self._aside.ask(lambda: _measure(query))
        if rates is None:
            return {}
        if not rates:
            query.absences.add("pcie throughput", query.now)
        return rates

    def close(self) -> None:
        self._aside.close()


def _measure(query: GpuQuery) -> dict[int, float]:
    """Bytes a second (NVML says KB/s), nothing where the GPU cannot tell."""
    nvml = query.nvml
    try:
        sent, received = (nvml.nvmlDeviceGetPcieThroughput(query.handle, way) for way in (0, 1))
    except nvml.NVMLError:
        return {}
    rates = {PCIE_SENT: sent, PCIE_RECEIVED: received}
    return {field: rate * 1000.0 for field, rate in rates.items() if rate not in BLANK}
