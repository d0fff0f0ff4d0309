"""`/api/v1/targets` and `/scrape_pools`: which sources are read, when, and how that went."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.config.effective import without_login
from tocsin_alerting.time_format import format_duration, rfc3339
from tocsin_exporter.snapshot import Labels, Source


@dataclass(frozen=True, slots=True)
class ActiveTarget:
    """One source: `url` is the page that shows it, without keys; `ok` is None before it was first
    read, and while it is `absent`: there is nothing of it on this machine.

    `interval` and `deadline` are seconds; `last_ms` Unix milliseconds, and `seconds` how long that
    reading took. A target of `scrape_configs` has `labels`, which begin as those `discovered`.
    """

    source: Source
    url: str
    interval: float
    deadline: float
    last_ms: int | None
    seconds: float
    ok: bool | None
    error: str
    absent: bool = False
    job_name: str = ""
    labels: Labels = ()
    discovered: Labels = ()

    @property
    def pool(self) -> str:
        """The name of the job, which relabelling may change on the target."""
        return self.job_name or self.source.job


class Dropped(Protocol):
    """What relabelling left out, by job."""

    @property
    def dropped(self) -> Mapping[str, Sequence[Labels]]: ...


def routes(
    targets: Callable[[], Sequence[ActiveTarget]],
    alertmanager_urls: Sequence[str] = (),
    jobs: Dropped | None = None,
) -> list[Route]:
    """`targets` gives what is read now, and `jobs` what is discovered and left. `alertmanager_urls`
    are those to which alerts of rules are sent."""

    async def listed(request: Request) -> Response:
        state = request.query_params.get("state", "").lower()
        pool = request.query_params.get("scrapePool", "")
        wanted = [target for target in targets() if pool in ("", target.pool)]
        active = [_target(target) for target in wanted] if state in ("active", "any", "") else []
        left = {job: all_of for job, all_of in (jobs.dropped if jobs else {}).items()
                if pool in ("", job)}  # fmt: skip
        counts = {job: len(left.get(job, ())) for job in sorted({*_pools(wanted), *left})}
        dropped = [{"discoveredLabels": dict(one)} for all_of in left.values() for one in all_of]
        shown = dropped if state in ("dropped", "any", "") else []
        body = {"activeTargets": active, "droppedTargets": shown, "droppedTargetCounts": counts}
        return success(body)

    async def pools(request: Request) -> Response:
        return success({"scrapePools": _pools(targets())})

    async def alertmanagers(request: Request) -> Response:
        active = [{"url": url} for url in alertmanager_urls]
        return success({"activeAlertmanagers": active, "droppedAlertmanagers": []})

    return [
        get_route("/api/v1/targets", listed),
        get_route("/api/v1/scrape_pools", pools),
        get_route("/api/v1/alertmanagers", alertmanagers),
    ]


def _pools(targets: Sequence[ActiveTarget]) -> list[str]:
    """A job is a pool."""
    return sorted({target.pool for target in targets})


def _target(target: ActiveTarget) -> dict[str, Any]:
    url = without_login(target.url)
    scheme, _, rest = url.partition("://")
    address, slash, path = rest.partition("/")
    interval = format_duration(round(target.interval * 1000))
    timeout = format_duration(round(target.deadline * 1000))
    return {
        "discoveredLabels": dict(target.discovered)
        or {
            "__address__": address,
            "__metrics_path__": slash + path,
            "__scheme__": scheme,
            "__scrape_interval__": interval,
            "__scrape_timeout__": timeout,
            "job": target.source.job,
        },
        "labels": dict(target.labels)
        or {"instance": target.source.instance, "job": target.source.job},
        "scrapePool": target.pool,
        "scrapeUrl": url,
        "globalUrl": url,
        "lastError": target.error,
        "lastScrape": rfc3339(target.last_ms),
        "lastScrapeDuration": target.seconds,
        "health": {None: "unknown", True: "up", False: "down"}[target.ok],
        "scrapeInterval": interval,
        "scrapeTimeout": timeout,
    }
