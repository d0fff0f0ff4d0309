"""The accounts balance, whatever happens to requests, and the page has the canonical series."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tocsin_inference.errors import OUTCOMES, Outcome
from tocsin_inference.metrics import LATENCY, TOKEN, TOKENS, TTFT, Metrics, Ticket

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "refuse", "dispatch", "tokens", "end"]),
        st.integers(0, 5),
        st.sampled_from(OUTCOMES),
    ),
    max_size=60,
)


def page(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.page().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(metrics: Metrics, name: str) -> float:
    return sum(v for _, v in page(metrics)[name])


@given(STEPS)
def test_started_is_ended_and_running_and_waiting(steps: list[tuple[str, int, Outcome]]) -> None:
    metrics = Metrics("m", "1")
    tickets: list[Ticket] = []
    for now, (step, which, outcome) in enumerate(steps):
        if step == "start":
            tickets.append(metrics.start(now))
        elif step == "refuse":
            metrics.refuse(outcome, now)
        elif tickets:
            ticket = tickets[which % len(tickets)]
            if step == "dispatch" and ticket.dispatched is None and ticket.outcome is None:
                metrics.dispatch(ticket, 3, now)
            elif step == "tokens" and ticket.dispatched is not None:
                metrics.tokens(ticket, which + 1, now)
            elif step == "end":
                metrics.end(ticket, outcome, now)
    started = value(metrics, "llm_requests_started_total")
    running = value(metrics, "llm_num_requests_running")
    waiting = value(metrics, "llm_num_requests_waiting")
    assert started == value(metrics, "llm_requests_total") + running + waiting
    unended = [t for t in tickets if t.outcome is None]
    assert waiting == sum(t.dispatched is None for t in unended)
    assert running == len(unended) - waiting


def test_every_series_is_there_before_the_first_request() -> None:
    metrics = Metrics("a model", "1")
    found = page(metrics)
    assert {s["status"] for s, _ in found["llm_requests_total"]} == set(OUTCOMES)
    assert all(v == 0 for _, v in found["llm_requests_total"])
    assert found["llm_engine_info"] == [
        ({"model_name": "a model", "engine": "0", "engine_type": "tocsin", "version": "1"}, 1.0)
    ]
    buckets = {
        "llm_time_to_first_token_seconds": TTFT,
        "llm_inter_token_latency_seconds": TOKEN,
        "llm_request_time_per_output_token_seconds": TOKEN,
        "llm_e2e_request_latency_seconds": LATENCY,
        "llm_request_queue_time_seconds": LATENCY,
        "llm_request_prefill_time_seconds": LATENCY,
        "llm_request_decode_time_seconds": LATENCY,
        "llm_request_inference_time_seconds": LATENCY,
        "llm_request_prompt_tokens": TOKENS,
        "llm_request_generation_tokens": TOKENS,
    }
    for name, bounds in buckets.items():
        edges = [float(labels["le"]) for labels, _ in found[name + "_bucket"]]
        assert edges == [*bounds, float("inf")]
    assert not [name for name in found if name.endswith("_created")]
    assert "process_resident_memory_bytes" in found
    assert (len(TTFT), len(TOKEN), len(LATENCY)) == (22, 24, 26)


def test_times_go_where_they_belong() -> None:
    metrics = Metrics("m", "1")
    ticket = metrics.start(10.0)
    metrics.dispatch(ticket, 7, 12.0)
    metrics.tokens(ticket, 1, 13.0)
    metrics.tokens(ticket, 4, 15.0)
    metrics.end(ticket, "success", 16.0)
    metrics.end(ticket, "error", 99.0)
    assert value(metrics, "llm_request_queue_time_seconds_sum") == 2.0
    assert value(metrics, "llm_time_to_first_token_seconds_sum") == 3.0
    assert value(metrics, "llm_inter_token_latency_seconds_sum") == 2.0
    assert value(metrics, "llm_inter_token_latency_seconds_count") == 4
    assert value(metrics, "llm_request_time_per_output_token_seconds_sum") == 0.5
    assert value(metrics, "llm_e2e_request_latency_seconds_sum") == 6.0
    assert value(metrics, "llm_prompt_tokens_total") == 7
    assert value(metrics, "llm_generation_tokens_total") == 5
    assert value(metrics, "llm_requests_total") == 1
    assert value(metrics, "llm_request_prefill_time_seconds_sum") == 1.0
    assert value(metrics, "llm_request_decode_time_seconds_sum") == 2.0
    assert value(metrics, "llm_request_inference_time_seconds_sum") == 3.0
    assert value(metrics, "llm_request_prompt_tokens_sum") == 7
    assert value(metrics, "llm_request_generation_tokens_sum") == 5


def test_why_an_answer_ended_is_counted_once() -> None:
    metrics = Metrics("m", "1")
    ticket = metrics.start(1.0)
    metrics.end(ticket, "success", 2.0, "length")
    metrics.end(ticket, "success", 3.0, "stop")
    found = {s["finished_reason"]: v for s, v in page(metrics)["llm_request_success_total"]}
    assert found == {"stop": 0, "length": 1}
    assert value(metrics, "llm_request_prefill_time_seconds_count") == 0


def test_what_clients_break_off_is_in_no_latency() -> None:
    metrics = Metrics("m", "1")
    for outcome in OUTCOMES:
        metrics.refuse(outcome, 1.0)
    assert value(metrics, "llm_e2e_request_latency_seconds_count") == 3
