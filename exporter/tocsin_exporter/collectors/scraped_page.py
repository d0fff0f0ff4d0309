"""A metrics page of any program, scraped as Prometheus does it: labels, limits, relabelling."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tocsin_exporter.collectors import engine_text
from tocsin_exporter.collectors.collector import CollectorError, Unread
from tocsin_exporter.collectors.engine_page import families_of, family_of, with_bounds
from tocsin_exporter.engine_access import EngineClient, Reply
from tocsin_exporter.http import (
    BadAnswer,
    BrokenOff,
    TooLarge,
    error_text,
    httpx,
    own_shortage,
)
from tocsin_exporter.relabel import LabelSet, relabelled
from tocsin_exporter.scrape_job import JobTarget, ScrapeJob, ScrapeLimits
from tocsin_exporter.slices import NEW, SLICE, Turns, Work, in_slices
from tocsin_exporter.snapshot import (
    EMPTY,
    Family,
    Labels,
    Layout,
    Sample,
    Series,
    Snapshot,
    Source,
    sorted_labels,
)

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
MOST_BYTES = 256 << 20  # of a page whose job has no body_size_limit
MOST_SAMPLES = 1_000_000
_LONGEST_ERROR = 300
# A page takes several turns of the loop. One that is longer than this share of the time-out, and
# not a moment only, may have cost the answer.
_LAG_SHARE = 0.1
_LEAST_LAG = 0.2
_NAME = "__name__"
_POST_RELABELLING = Family("scrape_samples_post_metric_relabeling", "gauge", "")
_SERIES_ADDED = Family("scrape_series_added", "gauge", "")


@dataclass(frozen=True, slots=True)
class _SourcePart:
    """The series of a page that belong to one source, and which samples of the page these are."""

    source: Source
    layout: Layout
    rows: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _PageReading:
    """One page: its samples, and how many series of it are new."""

    parts: tuple[_SourcePart, ...]
    values: NDArray[np.float64]
    added: int


@dataclass(slots=True)
class _PageLines:
    texts: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)


class ScrapedPage:
    """One target; `collect` reads it, `snapshots` gives what was read. A page that breaks a limit
    or does not parse fails as a whole, as in Prometheus. Times on the page mean nothing: ours are
    those of the scrape. `turns` are shared by all pages; `lag` is how long a turn of the loop took
    lately, in seconds."""

    name = "scrape"

    def __init__(
        self,
        target: JobTarget,
        transport: httpx.AsyncBaseTransport | None = None,
        turns: Turns | None = None,
        lag: Callable[[], float] = lambda: 0.0,
    ) -> None:
        headers = {"Accept": ACCEPT, "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout:g}"}
        access = replace(target.access, headers={**headers, **target.access.headers})
        self.target = target
        self._client = EngineClient(access, transport)
        self._in_turns, self._lag = turns.run if turns else in_slices, lag
        self._texts: list[str] = []
        self._parts: tuple[_SourcePart, ...] = ()
        self._seen: frozenset[tuple[str, Labels]] = frozenset()
        self._reading: _PageReading | None = None
        self._scraped = 0
        self._others: frozenset[Source] = frozenset()
        self._report = _report_layout(target)
        self._own: tuple[Layout, Layout] = EMPTY, EMPTY  # of the page, and with the report
        self._closing: asyncio.Future[None] | None = None

    async def collect(self) -> Sequence[Sample]:
        """Nothing but errors: CollectorError for the target's, Unread for our own."""
        self._reading, self._scraped = None, 0
        if self.target.refused:
            raise CollectorError(self.target.refused)
        reply = await self._reply()
        if not reply.ok:
            raise CollectorError(f"server returned HTTP status {reply.status}")
        if engine_text.ends_early(reply.text, reply.media, reply.framed):
            raise CollectorError("its answer ends too early")
        # It came in time; how long it waits for its turn here is not its fault.
        self._reading = await self._in_turns(self._read(reply.text))
        return ()

    async def _reply(self) -> Reply:
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.target.timeout):
                return await self._client.get(
                    self.target.path,
                    self.target.params,
                    self.target.job.limits.body_bytes or MOST_BYTES,
                )
        except TimeoutError:
            late = asyncio.get_running_loop().time() - begun - self.target.timeout
            if max(late, self._lag()) > max(_LEAST_LAG, _LAG_SHARE * self.target.timeout):
                raise Unread(f"{self.target.url} was not read in time: too busy") from None
            raise CollectorError(f"no answer within {self.target.timeout:g} s") from None
        except TooLarge as error:
            limit = self.target.job.limits.body_bytes
            said = f"body_size_limit exceeded: {limit} bytes allowed" if limit else str(error)
            raise CollectorError(said) from None
        except (BadAnswer, BrokenOff) as error:
            raise CollectorError(str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, MemoryError) as error:
            if lack := own_shortage(error):
                raise Unread(f"{self.target.url} cannot be scraped: {lack}") from error
            if isinstance(error, RuntimeError):
                raise
            raise CollectorError(error_text(error)[:_LONGEST_ERROR]) from error

    def close(self) -> None:
        """Close the connections soon; `aclose` waits for it."""
        self._closing = asyncio.ensure_future(self.aclose())

    async def aclose(self) -> None:
        await self._client.aclose()

    def snapshots(self, at_ms: int, seconds: float, report: bool) -> list[Snapshot]:
        """What was read since the last call, first of the target itself. Series that carry a job or
        an instance of their own (honor_labels) are those of other sources."""
        reading, self._reading = self._reading, None
        parts = {part.source: part for part in reading.parts} if reading else {}
        own = self._own_snapshot(reading, parts.pop(self.target.source, None), at_ms, seconds)
        others, gone = [], self._others - set(parts)
        for source, part in parts.items():
            assert reading is not None
            values = _read_only(reading.values[part.rows])
            others.append(Snapshot(source, at_ms, True, part.layout, values, report=False))
        ended = [Snapshot(s, at_ms, True, EMPTY, np.empty(0), report=False) for s in gone]
        self._others = frozenset(parts)
        return [replace(own, report=report), *others, *ended]

    def _own_snapshot(
        self, reading: _PageReading | None, part: _SourcePart | None, at_ms: int, seconds: float
    ) -> Snapshot:
        layout = part.layout if part else EMPTY
        if self._own[0] is not layout or not self._own[1].series:
            self._own = layout, Layout((*layout.series, *self._report.series))
        kept = sum(len(one.rows) for one in reading.parts) if reading else 0
        added = reading.added if reading else 0
        values = reading.values[part.rows] if reading and part else np.empty(0)
        return Snapshot(
            source=self.target.source,
            at_ms=at_ms,
            ok=reading is not None,
            layout=self._own[1],
            values=_read_only(np.concatenate([values, (float(kept), float(added))])),
            duration_seconds=seconds,
            target_labels=_without_source(self.target.labels),
            scraped=self._scraped,
        )

    def _read(self, page: str) -> Work[_PageReading]:
        """Raises CollectorError."""
        lines = yield from _lines(page)
        self._scraped, added = len(lines.texts), 0
        if lines.texts != self._texts or not self._parts:
            self._parts = yield from _parts(lines, self.target)
            series = frozenset(
                (one.name, one.labels) for part in self._parts for one in part.layout.series
            )
            added, self._seen = len(series - self._seen), series
            self._texts = lines.texts
        values = np.array(lines.values, np.float64)
        kept = sum(len(part.rows) for part in self._parts)
        if self.target.job.limits.samples and kept > self.target.job.limits.samples:
            raise CollectorError(
                f"sample_limit exceeded: {kept} samples, {self.target.job.limits.samples} allowed"
            )
        return _PageReading(self._parts, values, added)


def _lines(page: str) -> Work[_PageLines]:
    """Raises CollectorError with the first line that is none of a metrics page."""
    lines, number = _PageLines(), 0
    for window in engine_text.windows(page):
        for line in window.split("\n"):
            number += 1
            if not line or line[0] == "#":
                if line.startswith(("# HELP ", "# TYPE ")):
                    lines.headings.append(line)
                continue
            sample = engine_text.cut(line.strip())
            value = _number(sample[1])
            if value is None:
                raise CollectorError(f"line {number} is not a sample: {line.strip()[:80]!r}")
            lines.texts.append(sample[0])
            lines.values.append(value)
        if len(lines.texts) > MOST_SAMPLES:
            raise CollectorError(f"more than {MOST_SAMPLES:,} samples")
        yield
    return lines


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _parts(lines: _PageLines, target: JobTarget) -> Work[tuple[_SourcePart, ...]]:
    """The series of a page by their sources; a repeated one counts once."""
    families = yield from families_of(lines.headings)
    series: dict[Source, dict[tuple[str, Labels], Series]] = {}
    rows: dict[Source, list[int]] = {}
    own, cost = dict(target.labels), 0
    for row, text in enumerate(lines.texts):
        cost += NEW + len(text)
        if cost > SLICE:
            cost = 0
            yield
        found = _series(text, own, target.job, families)
        if found is None:
            continue
        source, one = found
        if (one.name, one.labels) not in series.setdefault(source, {}):
            series[source][one.name, one.labels] = one
            rows.setdefault(source, []).append(row)
    return tuple(
        _SourcePart(source, Layout(tuple(known.values())), np.array(rows[source], np.intp))
        for source, known in series.items()
    )


def _series(
    text: str, own: Mapping[str, str], job: ScrapeJob, families: dict[str, Family]
) -> tuple[Source, Series] | None:
    """One line with the labels of its target; None where relabelling drops it."""
    parsed = engine_text.series(text)
    if parsed is None:
        raise CollectorError(f"not a series: {text[:80]!r}")
    name, labels = parsed
    if text.count("=") > len(labels) and (twice := engine_text.repeated_label(text)):
        raise CollectorError(f"label name {twice!r} is not unique: {text[:80]!r}")
    family = family_of(name, families)
    labels = with_bounds(labels, family)
    merged = {**own, **labels} if job.honor_labels else {**_exported(labels, own), **own}
    kept: LabelSet | None = {**merged, _NAME: name}
    if job.metric_relabels:
        kept = relabelled({**merged, _NAME: name}, job.metric_relabels)
    if kept is None:
        return None
    new = kept.pop(_NAME, "")
    if not new:
        raise CollectorError(f"metric_relabel_configs take the name away from {text[:80]!r}")
    _check(job.limits, kept, text)
    source = Source(kept.pop("job", ""), kept.pop("instance", ""))
    named = family if new == name else replace(family, name=new)
    return source, Series(named, new, sorted_labels(kept))


def _exported(labels: Mapping[str, str], own: Mapping[str, str]) -> LabelSet:
    """A label that the target has too becomes `exported_<label>`, again until that is free."""
    kept = {name: value for name, value in labels.items() if name not in own}
    for name in sorted(labels.keys() & own.keys()):
        exported = f"exported_{name}"
        while exported in kept or exported in own or exported in labels:
            exported = f"exported_{exported}"
        kept[exported] = labels[name]
    return kept


def _check(limits: ScrapeLimits, labels: Mapping[str, str], text: str) -> None:
    """As Prometheus: the name counts among the labels."""
    if limits.labels and len(labels) + 1 > limits.labels:
        raise CollectorError(f"label_limit exceeded: {len(labels) + 1} labels: {text[:80]!r}")
    for name, value in labels.items():
        if limits.label_name_length and len(name) > limits.label_name_length:
            raise CollectorError(f"label_name_length_limit exceeded: {name[:80]!r}")
        if limits.label_value_length and len(value) > limits.label_value_length:
            raise CollectorError(f"label_value_length_limit exceeded: {name}={value[:80]!r}")


def _report_layout(target: JobTarget) -> Layout:
    labels = _without_source(target.labels)
    return Layout(
        tuple(Series(family, family.name, labels) for family in (_POST_RELABELLING, _SERIES_ADDED))
    )


def _without_source(labels: Labels) -> Labels:
    return tuple((name, value) for name, value in labels if name not in ("job", "instance"))


def _read_only(values: NDArray[np.float64]) -> NDArray[np.float64]:
    values.flags.writeable = False
    return values
