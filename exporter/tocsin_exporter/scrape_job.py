"""A scrape job as Prometheus's `scrape_configs` has it, and the targets that it makes of addresses.

What happens to the labels of a target: https://prometheus.io/docs/prometheus/latest/configuration/
configuration/#scrape_config, and `PopulateLabels` of Prometheus 3.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.relabel import LabelSet, Relabel, relabelled
from tocsin_exporter.snapshot import Labels, Source, sorted_labels

_SECONDS = re.compile(r"(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Addresses with the labels that they have in common. `source` names where they come from."""

    source: str
    targets: tuple[LabelSet, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileDiscovery:
    """Files of target groups in JSON or YAML, by patterns; `refresh` in seconds."""

    files: tuple[str, ...]
    refresh: float = 300.0


@dataclass(frozen=True, slots=True)
class DnsDiscovery:
    """Names whose records are targets; A and AAAA need the `port`. `refresh` in seconds."""

    names: tuple[str, ...]
    type: str = "SRV"
    port: int = 0
    refresh: float = 30.0


@dataclass(frozen=True, slots=True)
class ScrapeLimits:
    """0 is no limit. `samples` are those after metric relabelling; a page that breaks one of them
    fails as a whole. `targets` fails all of the job."""

    samples: int = 0
    labels: int = 0
    label_name_length: int = 0
    label_value_length: int = 0
    targets: int = 0
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ScrapeJob:
    """One job. `interval` and `timeout` in seconds; `access` holds keys and certificates, and its
    address is each target's own."""

    name: str
    interval: float = 60.0
    timeout: float = 10.0
    scheme: str = "http"
    metrics_path: str = "/metrics"
    params: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    honor_labels: bool = False
    access: EngineAccess = EngineAccess("", "")
    static: tuple[TargetGroup, ...] = ()
    files: tuple[FileDiscovery, ...] = ()
    dns: tuple[DnsDiscovery, ...] = ()
    relabels: tuple[Relabel, ...] = ()
    metric_relabels: tuple[Relabel, ...] = ()
    limits: ScrapeLimits = ScrapeLimits()


@dataclass(frozen=True, slots=True)
class JobTarget:
    """One page to scrape: `labels` are on all of its series and hold job and instance;
    `discovered` is what relabelling began with. `access.url` is without path and query. `refused`
    says why it is down without being asked."""

    job: ScrapeJob
    source: Source
    labels: Labels
    discovered: Labels
    access: EngineAccess
    path: str
    params: tuple[tuple[str, str], ...]
    interval: float
    timeout: float
    refused: str = ""

    @property
    def url(self) -> str:
        query = f"?{urlencode(self.params)}" if self.params else ""
        return f"{self.access.url}{self.path}{query}"


@dataclass(frozen=True, slots=True)
class JobTargets:
    """What a job's groups come to: pages to scrape, what relabelling dropped, and why some cannot
    be scraped."""

    active: tuple[JobTarget, ...] = ()
    dropped: tuple[Labels, ...] = ()
    problems: tuple[str, ...] = ()


def job_targets(job: ScrapeJob, groups: Iterable[TargetGroup]) -> JobTargets:
    """Each page once. One source is a job and an instance: a second page with the same is left out,
    and said."""
    active: dict[Source, JobTarget] = {}
    dropped: list[Labels] = []
    problems: list[str] = []
    for group in groups:
        for address in group.targets:
            discovered = _discovered(job, {**group.labels, **address})
            try:
                target = _target(job, discovered)
            except ValueError as error:
                shown = discovered.get("__address__", "")
                problems.append(f"{group.source}: target {shown!r}: {error}")
                continue
            if target is None:
                dropped.append(sorted_labels(discovered))
            elif (known := active.setdefault(target.source, target)).url != target.url:
                problems.append(
                    f"{group.source}: {target.url} and {known.url} have the same job and instance;"
                    " give one of them another instance by relabel_configs"
                )
    targets = tuple(active.values())
    if job.limits.targets and len(targets) > job.limits.targets:
        said = f"target_limit exceeded: {len(targets)} targets, {job.limits.targets} allowed"
        targets = tuple(replace(target, refused=said) for target in targets)
        problems.append(said)
    return JobTargets(targets, tuple(dropped), tuple(problems))


def _discovered(job: ScrapeJob, labels: LabelSet) -> LabelSet:
    """The labels before relabelling; those of the group win over the job's."""
    settings = {
        "job": job.name,
        "__scrape_interval__": _duration(job.interval),
        "__scrape_timeout__": _duration(job.timeout),
        "__metrics_path__": job.metrics_path,
        "__scheme__": job.scheme,
    }
    params = {f"__param_{name}": values[0] for name, values in job.params.items() if values}
    return {**settings, **params, **labels}


def _target(job: ScrapeJob, discovered: LabelSet) -> JobTarget | None:
    """None where relabelling drops it. Raises ValueError."""
    labels = relabelled(discovered, job.relabels)
    if labels is None:
        return None
    address = labels.get("__address__", "")
    if not address:
        raise ValueError("no address")
    if "/" in address:
        raise ValueError(f"{address!r} is not a valid address: HOST:PORT, without a path")
    interval = _seconds(labels.get("__scrape_interval__", ""))
    timeout = _seconds(labels.get("__scrape_timeout__", ""))
    if timeout > interval:
        raise ValueError("its scrape timeout is longer than its interval")
    scheme, path = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
    if scheme not in ("http", "https"):
        raise ValueError(f"its scheme is {scheme!r}, neither http nor https")
    own = {name: value for name, value in labels.items() if not name.startswith("__")}
    own.setdefault("instance", address)
    reached = EngineAccess.of(f"{scheme}://{address}")
    access = replace(job.access, url=reached.url, target=reached.target)
    return JobTarget(
        job=job,
        source=Source(own.get("job", ""), own["instance"]),
        labels=sorted_labels(own),
        discovered=sorted_labels(discovered),
        access=access,
        path=path if path.startswith("/") else f"/{path}",
        params=_params(job, labels),
        interval=interval,
        timeout=timeout,
    )


def _params(job: ScrapeJob, labels: LabelSet) -> tuple[tuple[str, str], ...]:
    """The job's, with the first value of each as relabelling left it."""
    params = {name: list(values) for name, values in job.params.items()}
    for label, value in labels.items():
        if label.startswith("__param_"):
            params.setdefault(label.removeprefix("__param_"), [""])[:1] = [value]
    return tuple((name, value) for name in sorted(params) for value in params[name])


def _duration(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return (
        f"{whole}s"
        if not milliseconds
        else f"{whole}s{milliseconds}ms"
        if whole
        else (f"{milliseconds}ms")
    )


def _seconds(text: str) -> float:
    match = _SECONDS.fullmatch(text)
    parts = [int(part or 0) for part in match.groups()] if match else [0]
    seconds = sum(n * unit for n, unit in zip(parts, (60, 1, 0.001), strict=False))
    if not seconds:
        raise ValueError(f"{text!r} is not a scrape interval or timeout like 30s")
    return seconds
