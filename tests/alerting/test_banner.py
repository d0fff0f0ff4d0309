"""What the agent says when it has started."""

from dataclasses import replace

import pytest

from support.rule_texts import alerting, group, recording
from tocsin_alerting.banner import StartFacts, banner
from tocsin_alerting.rules.rule import RuleFile

FACTS = StartFacts(
    gpus=0,
    engines=["vLLM at http://127.0.0.1:8000"],
    worker="",
    rules=[RuleFile("f.yml", (group(alerting(), alerting(), recording("a:b", "up")),))],
    receivers=["ops", "hook"],
    directory="data",
    retention_ms=15 * 86_400_000,
    url="http://127.0.0.1:4911",
)


def test_it_says_what_is_watched_who_is_told_and_where_to_look() -> None:
    head, *lines = banner(FACTS).splitlines()
    assert head.startswith("Tocsin 0.")
    assert lines == [
        "  watches  this host, no NVIDIA GPU, vLLM at http://127.0.0.1:8000",
        "  rules    2 alerting and 1 recording rules",
        "  notifies ops, hook",
        "  keeps    incidents in data, samples for 15d",
        "  look at  http://127.0.0.1:4911/metrics, http://127.0.0.1:4911/, alertctl incidents, "
        "alertctl alerts",
    ]


def test_whose_engine_is_not_read_and_the_line_that_lets_it_in() -> None:
    said = banner(replace(FACTS, strangers=[("http://127.0.0.1:8000", "alice")]))
    line = "belongs to user alice; to watch it: discovery: {allow_users: [alice]}"
    assert f"  not read http://127.0.0.1:8000 {line}\n" in said


def test_where_the_load_goes() -> None:
    assert "  load  " not in banner(FACTS)
    said = "  load     2 real chat requests per second to {}, because of --load\n"
    assert said.format("vLLM at http://127.0.0.1:8000") in banner(replace(FACTS, load_rps=2.0))
    assert said.format("the first engine found") in banner(replace(FACTS, engines=[], load_rps=2.0))


def test_that_nothing_outside_watches() -> None:
    assert "  but  " not in banner(FACTS)
    why = "nobody is paged if this machine dies"
    assert f"  notifies ops, hook\n  but      {why}\n" in banner(replace(FACTS, unwatched=why))
    lost = "links in messages point to nowhere"
    said = banner(replace(FACTS, unwatched=why, links=lost))
    assert f"  but      {why}\n  but      {lost}\n" in said


def test_gpus_engines_and_the_worker() -> None:
    assert ", 1 GPU, " in banner(replace(FACTS, gpus=1))
    assert ", 8 GPUs, " in banner(replace(FACTS, gpus=8))
    assert ", GPUs not counted yet, " in banner(replace(FACTS, gpus=None))
    alone = banner(replace(FACTS, engines=[], worker="off"))
    assert ", no inference engine yet\n  worker   off\n" in alone


def test_what_is_not_recorded_is_not_said_to_be_kept() -> None:
    text = banner(replace(FACTS, journal_error="database is locked", retention_ms=None))
    why = "journal in data: database is locked"
    assert f"incidents NOT RECORDED ({why}), samples in memory only" in text
    assert "incidents in data" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://:14921", "http://127.0.0.1:14921"),
        ("http://0.0.0.0:14921", "http://127.0.0.1:14921"),
        ("http://[::]:14921", "http://127.0.0.1:14921"),
        ("http://10.0.0.5:4911", "http://10.0.0.5:4911"),
    ],
)
def test_addresses_that_can_be_opened_and_given_to_alertctl(url: str, shown: str) -> None:
    last = banner(replace(FACTS, url=url)).splitlines()[-1]
    assert last == (
        f"  look at  {shown}/metrics, {shown}/, alertctl --url {shown} incidents, "
        f"alertctl --url {shown} alerts"
    )


def test_alertctl_finds_the_usual_port_on_its_own() -> None:
    assert "alertctl --url" not in banner(replace(FACTS, url="http://:4911"))


def test_an_expected_engine_that_is_silent_comes_with_how_to_forget_it() -> None:
    said = banner(replace(FACTS, silent=["127.0.0.1:8000"], url="http://h:1"))
    assert "alertctl --url http://h:1 engines forget 127.0.0.1:8000" in said
