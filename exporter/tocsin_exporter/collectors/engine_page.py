"""An engine's own metrics page as a Prometheus would store it: its names, types and labels.

`llm_*` is our translation of the page; this is the page itself, so that the engine's own boards and
rules work unchanged.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tocsin_exporter.catalogue import GPU
from tocsin_exporter.collectors.engine_dialects import DIALECTS
from tocsin_exporter.collectors.engine_text import EnginePageText, unescaped
from tocsin_exporter.collectors.engine_text import series as parse_series
from tocsin_exporter.slices import NEW, SLICE, Work, parts
from tocsin_exporter.snapshot import (
    EMPTY,
    Family,
    Labels,
    Layout,
    MetricType,
    Series,
    Snapshot,
    Source,
    Values,
    sorted_labels,
)

_TYPES: dict[str, MetricType] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
}
# Names that we give: what an engine says under them would be taken for our own finding.
_OURS = ("llm_", "tocsin_", "node_", "DCGM_FI_", "namedprocess_", "scrape_", "ALERTS")
_BOUNDS = {"histogram": "le", "summary": "quantile"}
_PARTS = {
    "_bucket": ("histogram",),
    "_sum": ("histogram", "summary"),
    "_count": ("histogram", "summary"),
}


class OriginalPage:
    """One engine's page, read anew each round; while its series stay, so does its `Layout`.

    `job` overrides the engine's type as the job. There is no source before one of them is known.
    `left_out` counts the series of the page whose names are ours.
    """

    def __init__(self, instance: str, job: str = "", engine_type: str = "") -> None:
        self._instance = instance
        self._job = job
        self._type = engine_type
        self.left_out = 0
        self._texts: list[str] = []
        self._rows: NDArray[np.intp] | None = None
        self._layout = EMPTY
        self._shown = EMPTY
        self._shown_of = EMPTY
        self._values: Values | None = None

    @property
    def engine_type(self) -> str:
        """The type of the page that was last read or kept; "" while it is unknown."""
        return self._type

    @property
    def source(self) -> Source | None:
        """Where a Prometheus would keep the page; None while the type of the engine is unknown."""
        job = self._job or self._type
        return Source(job, self._instance) if self._type else None

    def resume(self, newest_ms: Callable[[Source], int | None]) -> None:
        """Take the type under which the page was kept last: a silent engine is down by that name.

        `newest_ms` gives when a source was last sampled, None for never.
        """
        newest = {name: newest_ms(Source(self._job or name, self._instance)) for name in DIALECTS}
        times = {name: at_ms for name, at_ms in newest.items() if at_ms is not None}
        if times and not self._type:
            self._type = max(times, key=lambda name: times[name])

    def read(self, engine_type: str, page: EnginePageText) -> Work[None]:
        """Take this round's page of an engine of this type."""
        self._type = engine_type
        if page.texts != self._texts:
            self._layout, self._rows, self.left_out = yield from _layout(page)
            self._texts = page.texts
        values = np.array(page.values, np.float64)
        self._values = values if self._rows is None else values[self._rows]
        self._values.flags.writeable = False

    def snapshot(self, at_ms: int, duration_seconds: float) -> Snapshot | None:
        """What was read since the last call, not ok if nothing was; None without a source."""
        if self.source is None:
            return None
        values, self._values = self._values, None
        ok = values is not None
        return Snapshot(
            source=self.source,
            at_ms=at_ms,
            ok=ok,
            layout=self._layout if ok else EMPTY,
            values=values if values is not None else np.empty(0),
            duration_seconds=duration_seconds,
        )

    def labelled(self, snapshot: Snapshot, target: str) -> Work[Snapshot]:
        """The snapshot with `target` on each series: two engines never collide on a page."""
        if snapshot.layout is not self._shown_of:
            shown: list[Series] = []
            for part in parts(snapshot.layout.series, SLICE // NEW):
                shown += (_with_target(series, target) for series in part)
                yield
            self._shown_of, self._shown = snapshot.layout, Layout(tuple(shown))
        return replace(snapshot, layout=self._shown)


def _layout(page: EnginePageText) -> Work[tuple[Layout, NDArray[np.intp] | None, int]]:
    """The series in their order, their lines (None: all), and how many have a name of ours; a
    repeated one counts once."""
    families = yield from families_of(page.headings)
    series_by_key: dict[tuple[str, Labels], Series] = {}
    rows: list[int] = []
    cost = left_out = 0
    for row, text in enumerate(page.texts):
        cost += NEW + len(text)
        if cost > SLICE:
            cost = 0
            yield
        parsed = parse_series(text)
        if parsed is None:
            continue
        if _is_ours(parsed[0]):
            left_out += 1
            continue
        name, family = parsed[0], family_of(parsed[0], families)
        labels = sorted_labels(with_bounds(parsed[1], family))
        if (name, labels) not in series_by_key:
            series_by_key[name, labels] = Series(family, name, labels)
            rows.append(row)
    layout = Layout(tuple(series_by_key.values()))
    whole = len(rows) == len(page.texts)
    return layout, None if whole else np.array(rows, np.intp), left_out


def _is_ours(name: str) -> bool:
    return name.startswith(_OURS) or name == "up" or name in GPU


def with_bounds(labels: dict[str, str], family: Family) -> dict[str, str]:
    """`le="1"` is `le="1.0"`, as Prometheus 3 stores it; 2 keeps what the page says."""
    name = _BOUNDS.get(family.type, "")
    return {**labels, name: _bound(labels[name])} if name in labels else labels


def _bound(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    return repr(number) if math.isfinite(number) else text


def families_of(headings: Sequence[str]) -> Work[dict[str, Family]]:
    """The families that the page's `# HELP` and `# TYPE` name."""
    families: dict[str, Family] = {}
    cost = 0
    for line in headings:
        cost += NEW // 4 + len(line)
        if cost > SLICE:
            cost = 0
            yield
        kind, name, text = (*line.rstrip()[2:].split(" ", 2), "", "")[:3]
        family = families.get(name) or Family(name, "untyped", "")
        if kind == "TYPE":
            families[name] = replace(family, type=_TYPES.get(text, "untyped"))
        elif kind == "HELP":
            families[name] = replace(family, help=unescaped(text))
    return families


def family_of(name: str, families: dict[str, Family]) -> Family:
    """The family of a sample's name; one that no heading names is a family by itself."""
    for part, types in _PARTS.items():
        family = families.get(name.removesuffix(part))
        if name.endswith(part) and family is not None and family.type in types:
            return family
    return families.setdefault(name, Family(name, "untyped", ""))


def _with_target(series: Series, target: str) -> Series:
    """`target` among its labels; one that the engine says itself becomes `exported_target`."""
    labels = dict(series.labels)
    if "target" in labels:
        labels["exported_target"] = labels["target"]
    return replace(series, labels=sorted_labels({**labels, "target": target}))
