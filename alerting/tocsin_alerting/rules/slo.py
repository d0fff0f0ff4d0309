"""Service level objectives as rules: the multi-window, multi-burn-rate alerts of Google's SRE
workbook, with the recorded series and labels of Sloth, so that its dashboards work."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tocsin_alerting.promql.errors import ParseError
from tocsin_alerting.promql.parser.ast import VectorSelector
from tocsin_alerting.promql.parser.parser import parse_selector
from tocsin_alerting.rules.slo_series import InvalidSelectors, SloSeries, slo_series
from tocsin_alerting.rules.yaml_reader import YamlReader
from tocsin_alerting.yaml_document import InvalidDocument, Path, parse

RUNBOOK = "http://127.0.0.1:4911/runbooks/ErrorBudgetBurn"
PERIOD_DAYS = 30
_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_FILE_KEYS = ("service", "slos")
_SLO_KEYS = ("name", "objective", "good", "total", "description", "runbook_url", "labels")
_NAME = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")
_LABEL = re.compile(r"(?!__|sloth_)[A-Za-z_][A-Za-z0-9_]*")
_OURS = ("alertname", "severity")
_HEAD = "# Written by `alertctl slo generate {}`: change that file and write this one again.\n"


@dataclass(frozen=True, slots=True)
class BurnRate:
    """So many times faster than the budget allows, in a long window and still in a short one."""

    factor: float
    long: str
    short: str


@dataclass(frozen=True, slots=True)
class BurnTier:
    """An alert: any of these rates. `least` failures in the long window are needed, so that one
    failure at night pages nobody; `lasts` is said of the budget."""

    severity: str
    kind: str
    rates: tuple[BurnRate, ...]
    least: int
    lasts: str


TIERS = (
    BurnTier("P1", "page", (BurnRate(14.4, "1h", "5m"),), 3, "is used up in 2 days"),
    BurnTier("P2", "page", (BurnRate(6, "6h", "30m"),), 3, "is used up in 5 days"),
    BurnTier(
        "P3",
        "ticket",
        (BurnRate(3, "1d", "2h"), BurnRate(1, "3d", "6h")),
        0,
        "does not last for 30 days",
    ),
)


@dataclass(frozen=True, slots=True)
class ServiceLevelObjective:
    """`objective` is a share of 1; `good` and `total` are selectors of counters."""

    service: str
    name: str
    objective: float
    good: str
    total: str
    description: str
    runbook_url: str
    labels: Mapping[str, str]
    series: SloSeries = field(compare=False)

    @property
    def budget(self) -> float:
        return round(1 - self.objective, 12)

    @property
    def alert(self) -> str:
        return _camel(self.name) + "BudgetBurn"

    @property
    def identity(self) -> dict[str, str]:
        return {
            "sloth_id": f"{self.service}-{self.name}",
            "sloth_service": self.service,
            "sloth_slo": self.name,
        }

    def tiers(self) -> tuple[BurnTier, ...]:
        """Those that can fire: with a budget of 10 %, nothing burns it 14.4 times too fast."""
        can = (
            (tier, tuple(rate for rate in tier.rates if rate.factor * self.budget < 1))
            for tier in TIERS
        )
        return tuple(
            BurnTier(tier.severity, tier.kind, rates, tier.least, tier.lasts)
            for tier, rates in can
            if rates
        )


def read_slos(text: str, path: str) -> list[ServiceLevelObjective]:
    """The objectives of a file. Raises InvalidDocument with every problem, each with its place."""
    reading = YamlReader(parse(text, path))
    root = reading.mapping((), reading.document.data, _FILE_KEYS, "a file of objectives")
    service = reading.text(("service",), "llm")
    if not _NAME.fullmatch(service):
        reading.wrong(("service",), f'"{service}" is no name; use letters, digits and `-`')
    nodes = reading.sequence(("slos",), root.get("slos"), "slos")
    if not nodes and not reading.problems:
        reading.wrong((), "there are no objectives; list them as `slos: [{name, objective, ...}]`")
    slos = [_slo(reading, ("slos", number), node, service) for number, node in enumerate(nodes)]
    _refuse_same_names(reading, slos)
    if reading.problems:
        raise InvalidDocument(reading.problems)
    return [slo for slo in slos if slo is not None]


def _slo(reading: YamlReader, path: Path, node: Any, service: str) -> ServiceLevelObjective | None:
    before = len(reading.problems)
    fields = reading.mapping(path, node, _SLO_KEYS, "an objective")
    for key in ("name", "objective", "good", "total"):
        if fields.get(key) is None and len(reading.problems) == before:
            reading.wrong(path, f"an objective needs `{key}`; add it")
    name = reading.text((*path, "name"))
    if name and not _NAME.fullmatch(name):
        message = f'"{name}" is no name of an objective; use letters, digits and `-`'
        reading.wrong((*path, "name"), message)
    objective = _objective(reading, (*path, "objective"), fields.get("objective"))
    good, total = (_counter(reading, (*path, key)) for key in ("good", "total"))
    description = reading.text((*path, "description"))
    if "{{" in description:
        reading.wrong((*path, "description"), "no templates here; it is text as it stands")
    labels = _labels(reading, (*path, "labels"))
    if len(reading.problems) > before or good is None or total is None:
        return None
    try:
        series = slo_series(good, total)
    except InvalidSelectors as error:
        reading.wrong((*path, error.key), str(error))
        return None
    url = reading.text((*path, "runbook_url"), RUNBOOK)
    return ServiceLevelObjective(
        service,
        name,
        objective,
        reading.text((*path, "good")).strip(),
        reading.text((*path, "total")).strip(),
        description,
        url,
        labels,
        series,
    )


def _objective(reading: YamlReader, path: Path, value: Any) -> float:
    """As a share of 1, of what is written in percent."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        reading.wrong(path, '"objective" must be a number of percent, as 99.9')
        return 0.0
    if 0 < value <= 1:
        reading.wrong(path, f"the objective is in percent: write {value * 100:.10g} for {value}")
    elif not 1 < value < 100:
        reading.wrong(path, "the objective must be below 100 %, and above 1: 100 leaves no budget")
    return round(float(value) / 100, 12)


def _counter(reading: YamlReader, path: Path) -> VectorSelector | None:
    text = reading.text(path)
    if not text:
        return None
    try:
        selector = parse_selector(text.strip(), reading.semantics)
    except ParseError as error:
        how = 'give a counter, as llm_requests_total{status="success"}; rate() and sum() are added'
        at = error.span.start if error.span.start >= 0 else 0
        reading.wrong_at(path, at, f'"{path[-1]}": {error.message}; {how}')
        return None
    if not selector.name or len(selector.matcher_sets) > 1:
        reading.wrong(path, f'"{path[-1]}" must be one metric by its name, without `or`')
        return None
    return selector


def _labels(reading: YamlReader, path: Path) -> dict[str, str]:
    labels = reading.texts(path, "labels")
    for name in labels:
        if name in _OURS or not _LABEL.fullmatch(name):
            message = f'"{name}" cannot be a label of an objective; choose another name'
            reading.wrong((*path, name), message, key=True)
        if "{{" in labels[name]:
            reading.wrong((*path, name), "no templates here; it is text as it stands")
    return labels


def _refuse_same_names(reading: YamlReader, slos: Iterable[ServiceLevelObjective | None]) -> None:
    seen: dict[str, str] = {}
    for number, slo in enumerate(slos):
        if slo is None:
            continue
        if slo.alert.lower() in seen:
            other = seen[slo.alert.lower()]
            message = f'"{slo.name}" makes the alert {slo.alert}, as "{other}" does; rename one'
            reading.wrong(("slos", number, "name"), message)
        seen.setdefault(slo.alert.lower(), slo.name)


def rules_text(slos: Iterable[ServiceLevelObjective], source: str, version: str) -> str:
    """The rule file, in Prometheus's format. `source` is what the objectives' file is called."""
    groups = [
        {"name": _group(slo), "interval": "1m", "rules": _rules(slo, version)} for slo in slos
    ]
    return _HEAD.format(source) + dump({"groups": groups})


def _group(slo: ServiceLevelObjective) -> str:
    return f"slo-{slo.service}-{slo.name}"


def _rules(slo: ServiceLevelObjective, version: str) -> list[dict[str, Any]]:
    return [*_recordings(slo, version), *(_alert(slo, tier) for tier in slo.tiers())]


def _recordings(slo: ServiceLevelObjective, version: str) -> Iterator[dict[str, Any]]:
    identity = {**slo.labels, **slo.identity}

    def record(name: str, expr: str, **more: str) -> dict[str, Any]:
        return {"record": name, "expr": expr, "labels": {**identity, **more}}

    for window in _WINDOWS:
        yield record(f"slo:sli_error:ratio_rate{window}", _error(slo, window), sloth_window=window)
    period = f"{PERIOD_DAYS}d"
    five = _of("slo:sli_error:ratio_rate5m", slo)
    yield record(
        f"slo:sli_error:ratio_rate{period}", f"avg_over_time({five}[{period}])", sloth_window=period
    )
    yield record("slo:objective:ratio", f"vector({slo.objective!r})")
    yield record("slo:error_budget:ratio", f"vector({slo.budget!r})")
    yield record("slo:time_period:days", f"vector({PERIOD_DAYS})")
    budget = _of("slo:error_budget:ratio", slo)
    per_budget = f"/ on (sloth_id, sloth_service, sloth_slo) group_left\n{budget}"
    yield record("slo:current_burn_rate:ratio", f"{five}\n{per_budget}")
    whole = _of(f"slo:sli_error:ratio_rate{period}", slo)
    yield record("slo:period_burn_rate:ratio", f"{whole}\n{per_budget}")
    burnt = _of("slo:period_burn_rate:ratio", slo)
    yield record("slo:period_error_budget_remaining:ratio", f"1 - {burnt}")
    about = {"sloth_mode": "cli-gen-prom", "sloth_spec": "tocsin/v1", "sloth_version": version}
    yield record("sloth_slo_info", "vector(1)", sloth_objective=_percent(slo.objective), **about)


def _of(metric: str, slo: ServiceLevelObjective) -> str:
    inside = ", ".join(f'{name}="{value}"' for name, value in slo.identity.items())
    return f"{metric}{{{inside}}}"


def _error(slo: ServiceLevelObjective, window: str) -> str:
    """The share of failures. Nothing good at all is 100 %; no requests are no share."""
    total = f"sum(rate({slo.total}[{window}]))"
    return (
        "clamp_min(1 - (\n"
        f"  (sum(rate({slo.good}[{window}])) or 0 * {total})\n"
        f"  / ({total} > 0)\n"
        "), 0)"
    )


def _alert(slo: ServiceLevelObjective, tier: BurnTier) -> dict[str, Any]:
    parts = "\n  or\n".join(_burns(slo, rate) for rate in tier.rates)
    expr = f"max without (sloth_window) (\n{parts}\n)"
    if tier.least:
        window = tier.rates[0].long
        total = f"sum(increase({slo.total}[{window}]))"
        good = f"(sum(increase({slo.good}[{window}])) or 0 * {total})"
        expr += f"\nand on () {total}\n  - {good} >= {tier.least}"
    labels = {"severity": tier.severity, "sloth_severity": tier.kind}
    return {"alert": slo.alert, "expr": expr, "labels": labels, "annotations": _texts(slo, tier)}


def _burns(slo: ServiceLevelObjective, rate: BurnRate) -> str:
    limit = f"{rate.factor:g} * {slo.budget!r}"
    short, long = (_of(f"slo:sli_error:ratio_rate{w}", slo) for w in (rate.short, rate.long))
    return f"  {short} > {limit}\n  and ignoring (sloth_window)\n  {long} > {limit}"


def _texts(slo: ServiceLevelObjective, tier: BurnTier) -> dict[str, str]:
    said = description(slo, tier, "{{ $value | humanizePercentage }}")
    return {"summary": summary(slo), "description": said, "runbook_url": slo.runbook_url}


def summary(slo: ServiceLevelObjective) -> str:
    return f"{slo.service} {slo.name} burns its error budget too fast."


def description(slo: ServiceLevelObjective, tier: BurnTier, value: str) -> str:
    """`value` is the present share of failures."""
    about = f" {slo.description}" if slo.description else ""
    allowed = _percent(slo.budget)
    return (
        f"{value} fail, and {allowed}% may over {PERIOD_DAYS} days: at this rate the budget "
        f"{tier.lasts}.{about}"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.10g}"


def _camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split("[-_]", name))


class _RuleDumper(yaml.SafeDumper):
    """Texts of several lines as blocks, as people write them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_RuleDumper.add_representer(str, _text)


def dump(data: Mapping[str, Any]) -> str:
    return yaml.dump(data, Dumper=_RuleDumper, sort_keys=False, width=1_000, allow_unicode=True)
