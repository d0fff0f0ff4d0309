"""Snapshots made from samples, for readers of snapshots."""

from collections.abc import Iterable, Mapping

from tocsin_exporter.snapshot import Exemplar, LayoutCache, Sample, Snapshot, Source


def snapshot(
    samples: Iterable[Sample],
    job: str = "node",
    instance: str = "host:4911",
    exemplars: Mapping[int, Exemplar] | None = None,
) -> Snapshot:
    layout, values = LayoutCache().build(samples)
    return Snapshot(
        source=Source(job, instance),
        at_ms=1_000,
        ok=True,
        layout=layout,
        values=values,
        exemplars=exemplars or {},
    )
