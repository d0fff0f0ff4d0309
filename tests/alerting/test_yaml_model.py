"""A document as a model: filled, or refused with every problem at its place."""

import time
from collections.abc import Mapping

import pytest
from pydantic import BaseModel, ConfigDict

from tocsin_alerting.yaml_document import InvalidDocument, parse
from tocsin_alerting.yaml_model import validate


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    port: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    servers: list[Inner] = []


def test_a_model_is_filled_or_every_problem_is_told() -> None:
    assert validate(Outer, parse("name: x\nservers: [{port: 1}]", "f")).servers[0].port == 1
    with pytest.raises(InvalidDocument) as caught:
        validate(Outer, parse("nmae: x\nservers:\n  - {port: many}\n  - {prot: 1}\n", "f"))
    said = [str(problem) for problem in caught.value.problems]
    assert said[0].startswith('f:1:1: "name" is missing; add it')
    assert said[1] == 'f:1:1: unknown key "nmae"; did you mean "name"?'
    assert said[2].startswith("f:3:12: servers.0.port: ")
    assert 'f:4:6: unknown key "servers.1.prot"; did you mean "port"?' in said


class Fleet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    by_name: Mapping[str, Inner | list[Inner]] = {}


@pytest.mark.parametrize("text", ["by_name: {a: {prt: 1}}", "by_name: {a: [{prt: 1}]}"])
def test_a_near_key_is_proposed_through_mappings_and_unions(text: str) -> None:
    with pytest.raises(InvalidDocument, match='did you mean "port"'):
        validate(Fleet, parse(text, "f"))


def test_of_very_many_problems_the_first_are_shown_and_the_others_counted() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")
        known: int = 0

    document = parse("".join(f"knwon{number}: 1\n" for number in range(30_000)), "f.yml")
    began = time.thread_time()
    with pytest.raises(InvalidDocument) as refused:
        validate(Model, document)
    assert time.thread_time() - began < 10  # it was quadratic: 40 s
    lines = str(refused.value).splitlines()
    assert lines[0] == 'f.yml:1:1: unknown key "knwon0"; did you mean "known"?'
    again = InvalidDocument(refused.value.problems)
    assert sorted(map(str, again.problems)) == sorted(lines)
    assert len(lines) == 101 and lines[-1] == "f.yml:100:1: 29,900 more problems are not shown"
