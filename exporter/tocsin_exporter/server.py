"""The metrics page and its neighbours over HTTP: /metrics, /-/healthy, /-/ready and /."""

import html
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from operator import is_not
from typing import Protocol

import cramjam
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from tocsin_exporter.catalogue import OWN
from tocsin_exporter.catalogue.own import SCRAPE_SECONDS
from tocsin_exporter.collector_settings import ENABLED
from tocsin_exporter.connections import Connections
from tocsin_exporter.connections import samples as connection_samples
from tocsin_exporter.exposition import Page, rendered
from tocsin_exporter.negotiation import Format, accepts_gzip, compressed, negotiate
from tocsin_exporter.slices import in_slices
from tocsin_exporter.snapshot import Sample, Snapshot, labels, only

MOST_SCRAPES = 40
AREAS = ("host", "process", "gpu", "llm", "tocsin")
# node_exporter's collectors that we do not have: who leaves them out has what he wants.
_NOT_OURS = (
    *("boottime", "cpu_vulnerabilities", "devstat", "ethtool", "kernel_hung", "logind", "ntp"),
    *("nvmesubsystem", "pcidevice", "perf", "runit", "softirqs", "supervisord", "swap"),
    *("watchdog", "wifi", "xfrm"),
)
_LARGE_BYTES = 512 << 10
_GZIP_LEVEL = 1  # 0.1 ms a page; level 6 takes nine times as long and saves a sixth


class SnapshotSource(Protocol):
    """What the server needs of the agent."""

    @property
    def ready(self) -> bool: ...

    @property
    def duplicates(self) -> int: ...

    @property
    def collectors(self) -> Mapping[str, Collection[str]]: ...

    async def page(
        self, parts: Collection[str] | None = None, original: bool = False
    ) -> list[Snapshot]: ...


@dataclass
class ScrapeCounters:
    """What the metrics page says of its own answers; `samples` goes into a collector."""

    in_flight: int = 0
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    buckets: Counter[float] = field(default_factory=Counter)
    seconds: float = 0.0
    last_bytes: int = 0
    last_series: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0  # series that pages lacked because they were there already
    duplicates: int = 0  # those, and those that sources said twice
    connections: Connections = field(default_factory=Connections)

    def answered(self, form: str, code: int, seconds: float) -> None:
        self.answers[form, str(code)] += 1
        self.seconds += seconds
        self.buckets[next((b for b in SCRAPE_SECONDS if seconds <= b), float("inf"))] += 1

    def samples(self) -> Iterator[Sample]:
        for (form, code), count in self.answers.items():
            yield Sample(OWN["tocsin_scrapes_total"], count, labels(format=form, code=code))
        yield Sample(OWN["tocsin_scrapes_in_flight"], self.in_flight)
        yield Sample(OWN["tocsin_exposition_bytes"], self.last_bytes)
        yield Sample(OWN["tocsin_exposition_duplicates_total"], self.duplicates)
        for job, count in self.last_series.items():
            yield Sample(OWN["tocsin_exposition_series"], count, labels(job=job))
        yield from self._durations()
        for name, own, value in connection_samples(self.connections):
            yield Sample(OWN[name], value, labels(**own))

    def _durations(self) -> Iterator[Sample]:
        family, below = OWN["tocsin_scrape_duration_seconds"], 0
        for bound in (*SCRAPE_SECONDS, float("inf")):
            below += self.buckets[bound]
            le = "+Inf" if bound == float("inf") else repr(bound)
            yield Sample(family, below, labels(le=le), "_bucket")
        yield Sample(family, self.seconds, (), "_sum")
        yield Sample(family, below, (), "_count")


class MetricsPage:
    """Answers /metrics; `monotonic` gives seconds, `most` is how many may be answered at once."""

    def __init__(
        self,
        agent: SnapshotSource,
        monotonic: Callable[[], float],
        scrapes: ScrapeCounters,
        most: int = MOST_SCRAPES,
    ) -> None:
        self._agent = agent
        self._monotonic = monotonic
        self._scrapes = scrapes
        self._most = most
        self._last: dict[Format, tuple[tuple[Snapshot, ...], Page | None]] = {}

    async def answer(self, request: Request) -> Response:
        """200; 400 for a parameter that means nothing; 503 when too many scrapes are under way."""
        started = self._monotonic()
        self._scrapes.in_flight += 1
        try:
            form, response = await self._respond(request)
        finally:
            self._scrapes.in_flight -= 1
        self._scrapes.answered(form, response.status_code, self._monotonic() - started)
        return response

    async def _respond(self, request: Request) -> tuple[str, Response]:
        wanted = negotiate(request.headers.get("accept", ""))
        if self._most and self._scrapes.in_flight > self._most:
            return wanted.format, PlainTextResponse(
                f"Limit of concurrent requests reached ({self._most}), try again later.\n", 503
            )
        try:
            parts = _parts(request, AREAS, self._agent.collectors)
            original = _original(request)
        except ValueError as error:
            return wanted.format, PlainTextResponse(f"{error}\n", 400)
        snapshots = await self._agent.page(parts, original)
        if names := frozenset(request.query_params.getlist("name[]")):
            snapshots = [only(snapshot, names, names) for snapshot in snapshots]
        page = await self._rendered(snapshots, wanted.format)
        self._note(snapshots, page)
        return wanted.format, await _response(request, page.body, wanted.content_type)

    async def _rendered(self, snapshots: Sequence[Snapshot], form: Format) -> Page:
        """The last page again as long as all on it is the same: readings are used for a moment, and
        many may ask in that."""
        last, page = self._last.get(form, ((), None))
        if page is None or len(last) != len(snapshots) or any(map(is_not, last, snapshots)):
            page = await in_slices(rendered(snapshots, form))
            self._last[form] = tuple(snapshots), page
        return page

    def _note(self, snapshots: Sequence[Snapshot], page: Page) -> None:
        series: Counter[str] = Counter()
        for snapshot in snapshots:
            series[snapshot.source.job] += len(snapshot.series)
        # A job that is left out has 0. With other series each time, where scrapers ask for one area
        # each, no page would be like the one before.
        self._scrapes.last_series = {**dict.fromkeys(self._scrapes.last_series, 0), **series}
        self._scrapes.last_bytes = len(page.body)
        self._scrapes.refused += page.duplicates
        self._scrapes.duplicates = self._scrapes.refused + self._agent.duplicates


def _parts(
    request: Request, areas: Sequence[str], collectors: Mapping[str, Collection[str]]
) -> Collection[str]:
    """The areas and collectors of `collect[]`, or all but those of `exclude[]`."""
    collect = request.query_params.getlist("collect[]")
    exclude = request.query_params.getlist("exclude[]")
    if collect and exclude:
        raise ValueError("collect[] and exclude[] cannot be used together")
    known = {name for area in areas for name in collectors.get(area, ())}
    for part in collect:
        if part in ENABLED and part not in known:
            raise ValueError(f"collector {part} is off here; --collector.{part} turns it on")
    left_out_already = {*ENABLED, *_NOT_OURS} if exclude else set()
    for part in (*collect, *exclude):
        if part not in (*areas, *known, *left_out_already):
            raise ValueError(
                f"no such area or collector: {part!r}; the areas are {', '.join(areas)}, "
                f"the collectors {', '.join(sorted(known))}"
            )
    return collect or list(_all_but(exclude, areas, collectors))


def _all_but(
    exclude: Sequence[str], areas: Sequence[str], collectors: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """An area as a whole, or its other collectors when one of them is left out."""
    for area in areas:
        if area not in exclude:
            names = collectors.get(area, ())
            remaining = [name for name in names if name not in exclude]
            yield from remaining if len(remaining) < len(names) else (area,)


def _original(request: Request) -> bool:
    """Whether the engines' own pages are asked for: `original=true`."""
    asked = request.query_params.get("original", "false")
    if asked not in ("true", "false"):
        raise ValueError(f"original must be true or false, not {asked!r}")
    return asked == "true"


async def _response(request: Request, body: bytes, content_type: str) -> Response:
    headers = {"content-type": content_type, "vary": "Accept, Accept-Encoding"}
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        small = len(body) < _LARGE_BYTES  # a large one would hold up the loop
        packed = _gzipped(body) if small else await compressed(lambda: _gzipped(body))
        if packed is not None:
            headers["content-encoding"] = "gzip"
            return Response(packed, headers=headers)
    return Response(body, headers=headers)


def _gzipped(body: bytes) -> bytes:
    return bytes(cramjam.gzip.compress(body, _GZIP_LEVEL))


def routes(
    page: MetricsPage,
    unready: Callable[[], str],
    telemetry_path: str = "/metrics",
    links: Mapping[str, str] | None = None,
    stalled: Callable[[], str] = lambda: "",
) -> list[Route]:
    """What every Prometheus server has; `unready` says what is still missing ("": nothing).

    `stalled` says which loop no longer turns: then we must be started anew.

    `links` are further ones for the landing page at `/`.
    """
    shown = {"Metrics": telemetry_path, **(links or {}), "Health": "/-/healthy"}
    landing = _landing(shown)

    async def root(_request: Request) -> Response:
        return HTMLResponse(landing)

    async def healthy(_request: Request) -> Response:
        if why := stalled():
            return PlainTextResponse(f"Tocsin is not healthy: {why}.\n", 503)
        return PlainTextResponse("Tocsin is Healthy.\n")

    async def readiness(_request: Request) -> Response:
        if why := unready():
            return PlainTextResponse(f"Tocsin is not ready: {why}.\n", 503)
        return PlainTextResponse("Tocsin is Ready.\n")

    return [
        Route("/", root),
        Route(telemetry_path, page.answer),
        Route("/-/healthy", healthy),
        Route("/-/ready", readiness),
    ]


def _landing(links: Mapping[str, str]) -> str:
    items = "".join(
        f'<li><a href="{html.escape(path)}">{html.escape(name)}</a></li>'
        for name, path in links.items()
    )
    return (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Tocsin</title>"
        "<style>body{font-family:sans-serif;margin:0}header{background:#e6522c;color:#fff;"
        "padding:1em}ul{padding:1em 2em}</style>"
        f"<header><h1>Tocsin</h1>Host, GPU and inference metrics of {html.escape(platform.node())}"
        f"; version {version('tocsin')}.</header><ul>{items}</ul></html>"
    )
