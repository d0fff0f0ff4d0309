"""What an engine's answers say: whatever stands in them, nothing raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_exporter.collectors import engine_answers as answers
from tocsin_exporter.collectors import engine_text
from tocsin_exporter.engine_access import Reply
from tocsin_exporter.slices import at_once

LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
KEYS = st.sampled_from(["data", "object", "id", "owned_by", "error", "message", "version"])
VALUES = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)
BODIES = st.text(max_size=80) | VALUES.map(json.dumps)


@given(st.sampled_from([200, 204, 301, 401, 403, 404, 500]), BODIES)
def test_no_answer_breaks_the_reading(status: int, body: str) -> None:
    reply = Reply(status, body)
    page = at_once(answers.page(reply))
    assert page.refused is not reply.ok
    assert page.dialect is None or page.text
    named = answers.models(reply)
    assert named is None or (reply.ok and all(isinstance(one, str) for one in named))
    assert isinstance(answers.owner(reply), str) and isinstance(answers.version(reply), str)
    assert answers.is_openai_error(reply) <= answers.wants_key(reply) <= (status in (401, 403))
    assert not answers.is_well(reply) or reply.ok
    assert answers.alias(reply) == answers.gguf_model(answers.alias(reply))


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ('{"object":"list","data":[{"id":"a"},{"id":"b"}]}', ["a", "b"]),
        ('{"data":[{"id":"a"}]}', ["a"]),
        ('{"object":"list","data":[]}', []),
        ('{"object":"list","data":null}', []),
        ('{"object":"list","data":[{"id":"m\\ud800"}]}', ["m?"]),  # half of a pair
        ('{"object":"list","data":[{"id":"\\uD83D\\uDE00"}]}', ["\U0001f600"]),
        ('{"data":[]}', None),
        ('{"object":"list","data":["a"]}', None),
        ('{"object":"list","data":{"id":"a"}}', None),
        ("[]", None),
        ("9" * 5000, None),
        ("[" * 100_000, None),
    ],
)
def test_a_model_list_is_openais(body: str, names: list[str] | None) -> None:
    assert answers.models(Reply(200, body)) == names
    assert answers.models(Reply(404, body)) is None


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ('vllm:x{a="b",model_name="m"} 1', "m"),
        ('x{model_name="undefined"} 1\nx{model_name="m"} 1', "m"),
        ('x{my_model_name="m"} 1', ""),
        ("", ""),
    ],
)
def test_the_first_model_of_a_page(text: str, model: str) -> None:
    assert at_once(answers.first_model(at_once(engine_text.read(text)))) == model


def test_the_first_model_is_looked_for_in_slices() -> None:
    line = "x{" + 'model_name="undefined",' * 1_400 + "} 1\n"
    looking = answers.first_model(at_once(engine_text.read(line * 240)))
    assert sum(1 for _ in looking) > 200
