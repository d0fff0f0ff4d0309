"""Golden prompts: how answers are scored, and that asking them counts as no client's request."""

import asyncio
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.proxied import EngineRequest, chunked, proxied
from tocsin_exporter.proxy.golden import (
    GoldenExpectation,
    GoldenPrompt,
    GoldenPrompts,
    GoldenSet,
    likeness,
    score,
)


@pytest.mark.parametrize(
    ("expect", "text", "wanted"),
    [
        (GoldenExpectation(contains=["Paris"]), "It is PARIS.", (1, True)),
        (GoldenExpectation(contains=["Paris", "Lyon"]), "Paris", (0.5, False)),
        (GoldenExpectation(regex=re.compile(r"\b42\b")), "so 42", (1, True)),
        (GoldenExpectation(regex=re.compile(r"\b42\b")), "so 421", (0, False)),
        (GoldenExpectation(json_keys=["a", "b"]), '{"a": 1}', (0.5, False)),
        (GoldenExpectation(json_keys=["a"]), "[1]", (0, False)),
        (GoldenExpectation(json_keys=[]), "{}", (1, True)),
        (GoldenExpectation(json_keys=[]), "{", (0, False)),
        (GoldenExpectation(similar_to="The cat sat."), "the  cat SAT.", (1, True)),
        (GoldenExpectation(contains=["x"], regex=re.compile("y")), "x", (0.5, False)),
    ],
)
def test_the_score_is_the_mean_of_what_was_asked(
    expect: GoldenExpectation, text: str, wanted: tuple[float, bool]
) -> None:
    assert score(text, expect) == wanted


@given(st.text(), st.text())
def test_likeness_is_a_share_and_the_same_both_ways(one: str, other: str) -> None:
    assert 0 <= likeness(one, other) == likeness(other, one) <= 1
    assert likeness(one, one) == 1


def test_likeness_tells_near_from_far() -> None:
    wanted = "Encryption turns readable data into data that only a key makes readable."
    near = "Encryption turns readable data into something that only a key makes readable again."
    assert likeness(near, wanted) > 0.7
    assert likeness("I like to eat fish on Sundays.", wanted) < 0.2


def words(text: str) -> bytes:
    event = {"model": "smol", "choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}
    stream = chunked([b"data: %s\n\n" % json.dumps(event).encode(), b"data: [DONE]\n\n"])
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + stream


async def test_a_round_asks_each_and_counts_for_no_client() -> None:
    async def answer(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        question = json.loads(request.body)["messages"][-1]["content"]
        if question == "broken":
            error = b'{"error": {"type": "server_error"}}'
            head = (
                b"HTTP/1.1 500 Oh\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            )
            writer.write(head % len(error) + error)
        else:
            writer.write(words("It is Paris."))

    prompts = [
        GoldenPrompt("right", "capital", GoldenExpectation(contains=["Paris"]), system="Be short."),
        GoldenPrompt("wrong", "capital", GoldenExpectation(contains=["Lyon"])),
        GoldenPrompt("none", "broken", GoldenExpectation(contains=["x"])),
    ]
    async with proxied(answer) as proxy:
        golden = GoldenPrompts(
            GoldenSet(prompts, "smol"),
            proxy.app.upstream,
            lambda: [(b"Host", b"a")],
            time.perf_counter,
        )
        await golden.round()
        found = {
            (
                s.family.name + s.suffix,
                dict(s.labels).get("evaluation_name"),
                dict(s.labels).get("score_label"),
            ): s.value
            for s in golden.samples()
        }
        assert found["llm_quality_score", "right", None] == 1
        assert found["llm_quality_score", "wrong", None] == 0
        assert ("llm_quality_score", "none", None) not in found
        assert found["llm_evaluations_total", "right", "pass"] == 1
        assert found["llm_evaluations_total", "wrong", "fail"] == 1
        assert found["llm_evaluations_total", "none", "error"] == 1
        assert found["llm_synthetic_time_to_first_token_seconds_count", None, None] == 2
        assert found["llm_synthetic_e2e_seconds_count", None, None] == 2
        assert proxy.values()["llm_requests_started_total"] == 0
        assert not [name for name in proxy.values() if name.startswith("llm_requests_total")]
        asked = json.loads(proxy.engine.requests[0].body)
        assert [message["role"] for message in asked["messages"]] == ["system", "user"]


async def test_an_engine_that_is_silent_is_an_error_and_no_score() -> None:
    async def never(request: EngineRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    golden_set = GoldenSet(
        [GoldenPrompt("a", "b", GoldenExpectation(contains=["x"]))], "smol", 60, 0.05
    )
    async with proxied(never) as proxy:
        golden = GoldenPrompts(golden_set, proxy.app.upstream, lambda: (), time.perf_counter)
        await golden.round()
        await proxy.until(lambda: proxy.engine.open == 0)
        assert [s.value for s in golden.samples() if ("score_label", "error") in s.labels] == [1]
