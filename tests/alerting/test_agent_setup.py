"""How often each source is read."""

from tocsin_alerting.agent_setup import configured_scrapes
from tocsin_alerting.config.config import Config
from tocsin_exporter.targets import OWN_AREA, SCRAPE_CONFIGS


def test_without_a_configuration_they_are_the_usual_ones() -> None:
    assert configured_scrapes(Config()) == SCRAPE_CONFIGS


def test_an_interval_of_nothing_turns_an_area_off_and_never_the_agents_own() -> None:
    off = {"host": "0s", "gpu": "0s", "engines": "0s", "processes": "0s"}
    assert configured_scrapes(Config.model_validate({"collect": off})) == {
        OWN_AREA: SCRAPE_CONFIGS[OWN_AREA]
    }


def test_the_agent_is_read_as_often_as_the_host() -> None:
    found = configured_scrapes(Config.model_validate({"collect": {"host": "1s"}}))
    assert (found["host"].interval, found[OWN_AREA].interval) == (1.0, 1.0)
    assert found["host"].deadline < 1.0
