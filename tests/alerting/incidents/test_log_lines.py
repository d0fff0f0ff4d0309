"""Which lines of logs an incident keeps, and who may read them."""

from typing import NamedTuple

from tocsin_alerting.incidents.log_lines import history_data, telling, without_lines


class Line(NamedTuple):
    source: str
    pattern: str
    text: str


def test_an_alert_about_a_log_keeps_what_its_labels_name() -> None:
    kinds = [("vllm", "nccl"), ("vllm", "traceback"), ("db", "nccl")]

    def told(**labels: str) -> list[tuple[str, str]]:
        tells = telling(labels, 0, 9_000)
        return [kind for kind in kinds if tells(5.0, *kind)]

    assert told(source="vllm", pattern="nccl", instance="a") == kinds[:1]
    assert told(source="vllm") == kinds[:2]
    assert told(target="h:8000", source="") == kinds


def test_it_is_those_of_its_time() -> None:
    tells = telling({}, 2_000, 4_000)
    assert [tells(at, "a", "b") for at in (1.9, 2.0, 4.0, 4.1)] == [False, True, True, False]


def test_the_lines_are_not_for_everybody() -> None:
    data = history_data([Line("vllm", "nccl", "a line of ours")])
    assert data == {"count": 1, "lines": ["vllm (nccl): a line of ours"]}
    assert without_lines("log_lines", data) == {"count": 1}
    assert without_lines("acked", {"lines": 1}) == {"lines": 1}
