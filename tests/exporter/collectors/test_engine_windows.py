"""Percentiles, rates and shares over windows, from readings five seconds apart."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_exporter.catalogue import LLM
from tocsin_exporter.collectors.engine_windows import MOST_SERIES, EngineWindows, quantile
from tocsin_exporter.snapshot import Labels, Sample, labels

EVERY = 5.0
ABOUT = labels(model_name="m", engine="0", target="e:1")
Numbers = Mapping[str, float]


def counted(numbers: Numbers, about: Labels = ABOUT) -> list[Sample]:
    """`status:error` are requests, `ttft:0.5` is a bucket, the rest counters."""
    samples: list[Sample] = []
    for name, value in numbers.items():
        kind, _, part = name.partition(":")
        if kind == "status":
            own = tuple(sorted((*about, ("status", part))))
            samples.append(Sample(LLM["llm_requests_total"], value, own))
        elif kind == "ttft":
            own = tuple(sorted((*about, ("le", part))))
            samples.append(Sample(LLM["llm_time_to_first_token_seconds"], value, own, "_bucket"))
        else:
            samples.append(Sample(LLM[f"llm_{kind}_total"], value, about))
    return samples


def shown(found: list[Sample]) -> dict[str, float]:
    """By name, quantile and window."""
    rows = {}
    for sample in found:
        own = dict(sample.labels)
        key = "|".join(filter(None, (sample.family.name, own.get("q"), own["window"])))
        assert key not in rows and math.isfinite(sample.value)
        rows[key] = sample.value
    return rows


def after(rounds: int, start: Numbers, grows: Numbers) -> dict[str, float]:
    windows = EngineWindows(LLM)
    found: list[Sample] = []
    for i in range(rounds + 1):
        now = {name: value + i * grows.get(name, 0.0) for name, value in start.items()}
        found = list(windows.read(counted(now), 100.0 + i * EVERY))
    return shown(found)


TOKENS = {"prompt_tokens": 1000.0, "generation_tokens": 200.0}


def test_rates_of_tokens() -> None:
    rates = after(60, TOKENS, {"prompt_tokens": 50.0, "generation_tokens": 20.0})
    for window in ("1m", "5m"):
        assert rates[f"llm_prompt_tokens_per_second|{window}"] == pytest.approx(10)
        assert rates[f"llm_generation_tokens_per_second|{window}"] == pytest.approx(4)
        assert rates[f"llm_total_tokens_per_second|{window}"] == pytest.approx(14)


def test_no_gauge_before_its_window_is_full() -> None:
    assert after(0, TOKENS, {}) == {}
    assert after(10, TOKENS, {}) == {}
    one = after(20, TOKENS, {})
    assert set(one) == {
        f"llm_{kind}_tokens_per_second|1m" for kind in ("prompt", "generation", "total")
    }


def test_an_idle_engine_has_rates_of_nothing_and_neither_percentiles_nor_shares() -> None:
    idle = {**TOKENS, "status:success": 4.0, "status:error": 0.0, "ttft:0.5": 3.0, "ttft:+Inf": 4.0}
    found = after(60, idle, {})
    assert set(found.values()) == {0.0}
    assert not any("quantile" in name or "_ratio|" in name for name in found)
    assert "llm_requests_per_second|5m" in found


def test_shares_are_of_what_the_service_answers_for() -> None:
    start = dict.fromkeys(("status:success", "status:error", "status:cancelled"), 10.0)
    found = after(60, start, {"status:success": 3.0, "status:error": 1.0, "status:cancelled": 6.0})
    assert found["llm_success_ratio|1m"] == pytest.approx(0.75)
    assert found["llm_error_ratio|1m"] == pytest.approx(0.25)
    assert found["llm_requests_per_second|1m"] == pytest.approx(2.0)
    assert "llm_timeout_ratio|1m" not in found  # nobody counts timeouts here


def test_an_engine_that_counts_successes_alone_has_no_share_of_errors() -> None:
    found = after(60, {"status:success": 10.0}, {"status:success": 3.0})
    assert found["llm_success_ratio|1m"] == 1.0
    assert "llm_error_ratio|1m" not in found


def test_percentiles_are_prometheus_s() -> None:
    """Ten a round: four below 0.25 s, nine below 0.5 s; 0.5 is the fifth, 0.2 of the way."""
    start = {"ttft:0.25": 7.0, "ttft:0.5": 8.0, "ttft:+Inf": 9.0}
    found = after(60, start, {"ttft:0.25": 4.0, "ttft:0.5": 9.0, "ttft:+Inf": 10.0})
    name = "llm_time_to_first_token_quantile_seconds"
    for window in ("1m", "5m"):
        assert found[f"{name}|0.5|{window}"] == pytest.approx(0.25 + 0.25 * 0.2)
        assert found[f"{name}|0.95|{window}"] == found[f"{name}|0.99|{window}"] == 0.5


def test_a_counter_that_begins_anew_goes_on() -> None:
    windows = EngineWindows(LLM)
    values = [100.0 + 10 * i for i in range(8)] + [10.0 * i for i in range(8)]
    for i, value in enumerate(values):
        found = list(windows.read(counted({"prompt_tokens": value}), i * EVERY))
    rates = shown(found)
    assert rates["llm_prompt_tokens_per_second|1m"] == pytest.approx((11 * 10 + 0) / 60)


def test_after_an_outage_the_window_fills_again() -> None:
    windows = EngineWindows(LLM)
    for i in range(20):
        list(windows.read(counted(TOKENS), i * EVERY))
    assert list(windows.read(counted(TOKENS), 20 * EVERY + 400)) == []


def test_a_series_that_comes_later_counts_from_then_on() -> None:
    """What it had before is no traffic of this window."""
    windows = EngineWindows(LLM)
    for i in range(12):
        list(windows.read(counted({"status:success": 5.0 + i}), i * EVERY))
    rows = {"status:success": 17.0, "status:error": 1e6}
    found = shown(list(windows.read(counted(rows), 12 * EVERY)))
    assert found["llm_success_ratio|1m"] == 1.0
    assert "llm_error_ratio|1m" not in found


def test_a_series_that_is_gone_has_no_gauge() -> None:
    windows = EngineWindows(LLM)
    for i in range(12):
        list(windows.read(counted({**TOKENS, "status:success": 1.0 + i}), i * EVERY))
    found = shown(list(windows.read(counted({"prompt_tokens": 1000.0}), 12 * EVERY)))
    assert found == {"llm_prompt_tokens_per_second|1m": 0.0}


def test_engines_and_models_have_their_own() -> None:
    windows = EngineWindows(LLM)
    for i in range(13):
        rows: list[Sample] = []
        for engine, speed in (("0", 5.0), ("1", 10.0)):
            about = labels(model_name="m", engine=engine, target="e:1")
            rows += counted({"prompt_tokens": i * speed}, about)
        found = list(windows.read(rows, i * EVERY))
    assert {dict(s.labels)["engine"]: s.value for s in found} == {"0": 1.0, "1": 2.0}


def test_what_the_client_gave_up_is_no_latency() -> None:
    windows = EngineWindows(LLM)
    family = LLM["llm_e2e_request_latency_seconds"]
    for i in range(13):
        rows = []
        for le, value, status in (
            ("1.0", 5.0, "success"),
            ("+Inf", 5.0, "success"),
            ("1.0", 0.0, "cancelled"),
            ("+Inf", 500.0, "cancelled"),
        ):
            own = tuple(sorted((*ABOUT, ("le", le), ("status", status))))
            rows.append(Sample(family, value * i, own, "_bucket"))
        found = list(windows.read(rows, i * EVERY))
    assert shown(found)["llm_e2e_request_latency_quantile_seconds|0.99|1m"] == pytest.approx(0.99)


def test_too_many_series_have_no_windows_and_cost_nothing_later() -> None:
    windows = EngineWindows(LLM)
    names = (labels(model_name=f"m{i}", target="e:1") for i in range(MOST_SERIES + 1))
    many = [sample for about in names for sample in counted({"prompt_tokens": 1.0}, about)]
    for i in range(13):
        assert list(windows.read(many, i * EVERY)) == []
    for i in range(13, 26):
        found = list(windows.read(counted(TOKENS), i * EVERY))
    assert set(shown(found).values()) == {0.0}


@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=8),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_a_percentile_lies_in_its_bucket(steps: list[int], one: float, other: float) -> None:
    bounds = [*(0.1 * 2**i for i in range(len(steps) - 1)), math.inf]
    counts = [float(sum(steps[: i + 1])) for i in range(len(steps))]
    buckets = dict(zip(bounds, counts, strict=True))
    low, high = quantile(min(one, other), buckets), quantile(max(one, other), buckets)
    if not counts[-1]:
        assert low is None and high is None
        return
    assert low is not None and high is not None and 0 <= low <= high <= bounds[-2]
    below = [count for bound, count in buckets.items() if bound < low]
    assert not below or below[-1] <= min(one, other) * counts[-1] + 1e-9


def test_without_bounds_there_is_no_percentile() -> None:
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {math.inf: 3.0}) is None
    assert quantile(0.5, {0.1: 3.0, 0.2: 3.0}) is None  # nobody says how many there are
