"""What fuzzers once broke something with, said again; and a short turn of each fuzzer.

`scripts/test --hostile` lets them run for minutes, and keeps what they find below cases/.
"""

from collections.abc import Iterator

import pytest

from support.fuzzing import (
    CASES,
    FUZZERS,
    Tally,
    WorkerNeighbourhood,
    examples_of,
    faults,
    generated,
)
from support.neighbourhood import Neighbourhood

TURNS = {"http": 120, "remote_write": 60, "promql": 40, "engine_page": 6, "smtp": 3, "webhook": 3}
SEED = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbourhood]:
    with Neighbourhood(tmp_path_factory.mktemp("neighbourhood")) as one:
        yield one


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerNeighbourhood]:
    one = WorkerNeighbourhood(tmp_path_factory.mktemp("worker"))
    yield one
    one.close()


def kept(kind: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CASES / kind).glob("*")) if path.is_file()]


@pytest.mark.parametrize("kind", FUZZERS)
def test_nothing_that_a_neighbour_says_silences_the_pager(kind: str, place: Neighbourhood) -> None:
    fuzzer = FUZZERS[kind]

    def trial() -> None:
        for content in kept(kind):
            fuzzer.say(place, content)
        broken = examples_of(
            fuzzer.says, lambda content: fuzzer.say(place, content), SEED, TURNS[kind]
        )
        assert broken is None, broken

    place.pages_during(trial)


@pytest.mark.long
def test_nothing_that_a_client_says_breaks_the_worker(worker: WorkerNeighbourhood) -> None:
    for content in kept("worker"):
        worker.say(content)
    assert examples_of(worker.says(), worker.say, SEED, 60) is None
    worker.healthy_within(5)


def test_every_kind_of_case_is_said_again() -> None:
    assert {path.name for path in CASES.iterdir() if path.is_dir()} <= {*FUZZERS, "worker"}
    assert set(TURNS) == set(FUZZERS)


def test_a_fuzzer_that_ran_nothing_has_failed() -> None:
    summary = "Test cases:\n  499 generated, 499 passed\n\nSeed: 5\n"
    assert generated(summary) == 499
    assert generated("Schema Loading Error\n") == 0
    assert faults("schemathesis", Tally(examples=499)) == []
    assert faults("schemathesis", Tally()) == ["schemathesis: no example ran"]
    assert faults("worker", Tally(examples=3, kept=["a case"])) == ["a case"]
