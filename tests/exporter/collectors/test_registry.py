"""The visible dict of collectors against what each one makes."""

from support.site import recorded_site
from tocsin_exporter.collector_settings import ENABLED
from tocsin_exporter.collectors import COLLECTORS
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.server import AREAS


def test_every_collector_has_the_name_that_it_is_switched_by() -> None:
    for name, entry in COLLECTORS.items():
        made = entry.make(recorded_site())
        assert made.name == name
        made.close()


def test_only_what_cannot_wait_is_read_at_a_scrape() -> None:
    for entry in COLLECTORS.values():
        assert not entry.cheap or isinstance(entry.make(recorded_site()), InlineCollector)


def test_every_area_can_be_asked_for() -> None:
    assert {entry.area for entry in COLLECTORS.values()} <= set(AREAS)


def test_every_collector_of_the_host_can_be_switched_by_its_name() -> None:
    assert ENABLED.keys() == {name for name, e in COLLECTORS.items() if e.area == "host"}
    assert list(ENABLED) == sorted(ENABLED)
