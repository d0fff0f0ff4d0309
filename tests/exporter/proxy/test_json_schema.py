"""JSON schemas of golden prompts: they are checked as the library does, and never from afar."""

from typing import Any

import pytest

from tocsin_exporter.proxy.golden import GoldenExpectation, score
from tocsin_exporter.proxy.json_schema import schema_check

BITS: dict[str, Any] = {"type": "object", "required": ["bits"],
        "properties": {"bits": {"type": "integer", "minimum": 128}}}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ('{"bits": 256}', True),
        ('{"bits": 1}', False),
        ("{}", False),
        ("[", False),
        ("[" * 100_000, False),
    ],
)
def test_an_answer_is_as_the_schema_says_or_not(text: str, passes: bool) -> None:
    expect = GoldenExpectation(json_schema=schema_check(BITS))
    assert score(text, expect) == (float(passes), passes)


def test_it_counts_beside_what_else_is_expected() -> None:
    expect = GoldenExpectation(contains=["aes"], json_schema=schema_check(BITS))
    assert score("AES has 256", expect) == (0.5, False)


def test_the_draft_is_the_one_that_the_schema_names() -> None:
    tuples = {"items": [{"type": "integer"}, {"type": "string"}]}
    old = schema_check({"$schema": "http://json-schema.org/draft-07/schema#", **tuples})
    assert old([1, "a"]) and not old(["a", 1])
    with pytest.raises(ValueError, match="not a JSON schema at items"):
        schema_check(tuples)  # which 2020-12 calls prefixItems


def test_references_within_it_hold() -> None:
    check = schema_check({"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}})
    assert check([1]) and not check(["1"])


@pytest.mark.parametrize("reference", ["#/$defs/none", "https://127.0.0.1:9/schema.json"])
def test_a_reference_that_leads_out_of_it_is_an_error_at_once(reference: str) -> None:
    with pytest.raises(ValueError, match="leads nowhere"):
        schema_check({"properties": {"a": {"$ref": reference}}})
