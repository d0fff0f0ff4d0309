"""Tests of the rules of objectives, in promtool's format: faults, and what pages nobody."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tocsin_alerting.rules.slo import (
    BurnTier,
    ServiceLevelObjective,
    description,
    dump,
    summary,
)

_HEAD = (
    "# Written by `alertctl slo generate {}`. Run it: alertctl test FILE, or promtool test rules.\n"
)
_A_MINUTE = 1000.0  # requests
_MINUTES = 120
_BURNS = (20.0, 8.0, 4.0, 2.0)  # one that each rate of a tier sees, and the milder ones too


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests and failures as promtool writes a counter's samples, one a minute."""

    good: str
    failed: str
    total: str


def tests_text(slos: Iterable[ServiceLevelObjective], rules: str, source: str) -> str:
    """The test file; `rules` is the path of the rule file from it, `source` of the objectives."""
    tests = [test for slo in slos for test in _tests(slo)]
    return _HEAD.format(source) + dump(
        {"rule_files": [rules], "evaluation_interval": "10m", "tests": tests}
    )


def _tests(slo: ServiceLevelObjective) -> Iterator[dict[str, Any]]:
    for burn in _burns(slo):
        fired = [tier for tier in slo.tiers() if any(burn > rate.factor for rate in tier.rates)]
        name = f"a fault: the budget burns {burn:g} times too fast"
        yield _test(slo, name, _steady(burn * slo.budget), fired, burn)
    half = 0.5 * slo.budget
    yield _test(slo, "a ramp-up with half of the failures that are allowed", _ramp(half))
    yield _test(slo, "a restart: the counters begin again", _restart(half))
    yield _test(slo, "a night: nobody asks for 70 minutes, then one request fails", _night())


def _burns(slo: ServiceLevelObjective) -> list[float]:
    """With a large budget the fastest burn is that of everything failing."""
    most = 1 / slo.budget
    within = [burn for burn in _BURNS if burn < most]
    return within if within[:1] == [_BURNS[0]] else [round(most, 6), *within]


def _test(
    slo: ServiceLevelObjective,
    name: str,
    traffic: Traffic,
    fired: Iterable[BurnTier] = (),
    burn: float = 0.0,
) -> dict[str, Any]:
    expected = [_alert(slo, tier, burn) for tier in fired]
    at = {"eval_time": f"{_MINUTES}m", "alertname": slo.alert, "exp_alerts": expected}
    early = {"eval_time": "110m", "alertname": slo.alert, "exp_alerts": []}
    return {
        "name": f"{slo.name}, {name}",
        "interval": "1m",
        "input_series": _inputs(slo, traffic),
        "alert_rule_test": [at] if expected else [early, at],
    }


def _inputs(slo: ServiceLevelObjective, traffic: Traffic) -> list[dict[str, str]]:
    other = traffic.total if slo.series.apart else traffic.failed
    pairs = ((slo.series.good, traffic.good), (slo.series.other, other))
    return [{"series": series, "values": values} for series, values in pairs]


def _alert(slo: ServiceLevelObjective, tier: BurnTier, burn: float) -> dict[str, Any]:
    value = f"{100 * burn * slo.budget:.4g}%"
    labels = {**slo.labels, **slo.identity, "severity": tier.severity}
    return {
        "exp_labels": {**labels, "sloth_severity": tier.kind},
        "exp_annotations": {
            "summary": summary(slo),
            "description": description(slo, tier, value),
            "runbook_url": slo.runbook_url,
        },
    }


def _counters(pieces: Iterable[tuple[float, float, int]]) -> Traffic:
    """Pieces of (requests a minute, share of failures, minutes), one after the other."""
    good, failed, total = _CounterNotation(), _CounterNotation(), _CounterNotation()
    for rate, share, minutes in pieces:
        good.grow(rate * (1 - share), minutes)
        failed.grow(rate * share, minutes)
        total.grow(rate, minutes)
    return Traffic(good.text, failed.text, total.text)


class _CounterNotation:
    """A counter in promtool's notation, piece by piece."""

    def __init__(self) -> None:
        self._value = 0.0
        self._pieces: list[str] = []

    def grow(self, rate: float, minutes: int) -> None:
        self._pieces.append(f"{self._value:.10g}+{rate:.10g}x{minutes - 1}")
        self._value += rate * minutes

    @property
    def text(self) -> str:
        return " ".join(self._pieces)


def _steady(share: float) -> Traffic:
    return _counters([(_A_MINUTE, share, _MINUTES + 1)])


def _ramp(share: float) -> Traffic:
    grows = [(0.0, 0.0, 10), (0.1 * _A_MINUTE, share, 30), (_A_MINUTE, share, 30)]
    return _counters([*grows, (10 * _A_MINUTE, share, _MINUTES)])


def _restart(share: float) -> Traffic:
    before, after = (_counters([(_A_MINUTE, share, minutes)]) for minutes in (60, _MINUTES))
    joined = (
        f"{one} _x3 {other}"
        for one, other in (
            (before.good, after.good),
            (before.failed, after.failed),
            (before.total, after.total),
        )
    )
    return Traffic(*joined)


def _night() -> Traffic:
    return _counters([(_A_MINUTE, 0.0, 40), (0.0, 0.0, 66), (1.0, 1.0, 2), (0.0, 0.0, 20)])
