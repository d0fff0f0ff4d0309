import os
import threading
from dataclasses import replace

from support.site import only, recorded_site, statvfs
from tocsin_exporter.clock import Clock
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.engine import EngineCollector
from tocsin_exporter.collectors.inline import InlineCollector
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.engine_targets import EngineTargets
from tocsin_exporter.scrape import Scraper
from tocsin_exporter.snapshot import Source
from tocsin_exporter.targets import (
    SCRAPE_CONFIGS,
    SHORTEST_ENGINE_DEADLINE,
    ScrapeConfig,
    engine_target,
    local_targets,
    own_target,
    scrape_configs,
)


def test_every_local_area_is_a_source_of_its_own() -> None:
    targets = local_targets(recorded_site(), "h:4911")
    by_area = {target.area: target for target in targets}
    assert by_area["host"].source == Source("node", "h:4911")
    assert by_area["process"].source == Source("process", "h:4911")
    assert "filesystem" in {collector.name for collector in by_area["host"].collectors}
    assert "filesystem" not in by_area["host"].cheap and "cpu" in by_area["host"].cheap
    assert not {"tocsin", "llm"} & set(by_area)


def test_collectors_can_be_left_out_and_an_area_without_any_is_no_source() -> None:
    targets = local_targets(
        recorded_site(), "h", without=frozenset({"cpu", "process_groups", "containers"})
    )
    names = {collector.name for target in targets for collector in target.collectors}
    assert "cpu" not in names and "stat" in names
    assert "process" not in {target.area for target in targets}


def test_a_shorter_interval_shortens_the_deadline_too() -> None:
    chosen = scrape_configs({"process": 3.0})
    assert (chosen["process"].interval, chosen["process"].deadline) == (3.0, 2.0)
    assert chosen["gpu"] == SCRAPE_CONFIGS["gpu"]


def test_a_busy_engine_gets_its_time_at_any_interval() -> None:
    assert scrape_configs({"llm": 1.0})["llm"].deadline == SHORTEST_ENGINE_DEADLINE
    assert scrape_configs({"llm": 10.0})["llm"].deadline == 9.0


async def test_an_engine_is_its_own_instance_and_can_still_say_that_it_is_down() -> None:
    target = engine_target(recorded_site(), EngineAccess.of("http://box:8000/"))
    assert target.source == Source("llm", "box:8000") and target.target == "box:8000"
    assert target.deadline < target.interval
    for collector in target.collectors:
        collector.close()


async def test_an_engine_is_kept_in_its_own_words_unless_it_shall_not() -> None:
    access = EngineAccess.of("http://box:8000/")
    for chosen, kept in ((access, True), (replace(access, keep_original=False), False)):
        target = engine_target(recorded_site(), chosen)
        assert (target.original is not None) is kept
        for collector in target.collectors:
            collector.close()


async def test_its_own_targets_go_before_those_of_all() -> None:
    host = replace(recorded_site(), engine_targets=EngineTargets(first_token=2.0))
    access = EngineAccess.of("http://box:8000/")
    own = EngineTargets(per_token=0.05)
    for chosen, wanted in ((access, host.engine_targets), (replace(access, targets=own), own)):
        (collector,) = engine_target(host, chosen).collectors
        assert isinstance(collector, EngineCollector)
        assert collector.access.targets == wanted
        collector.close()


def test_what_the_stages_say_of_themselves_is_read_anew() -> None:
    target = own_target(recorded_site(), "h", [InlineCollector("stages", lambda: [])])
    assert target.cheap == {"process", "stages"} and target.source == Source("tocsin", "h")


async def test_a_hung_mount_is_given_up_before_the_collector_of_all_mounts_is() -> None:
    never = threading.Event()

    def hang(path: str) -> os.statvfs_result:
        if path != "/":
            never.wait(30)
        return statvfs(path)

    alone = CollectorSettings(collectors={"filesystem": True}, disable_defaults=True)
    host = recorded_site(statvfs=hang, mount_seconds=1.0, settings=alone)
    (target,) = local_targets(host, "h", {"host": ScrapeConfig("node", 0.5, 0.4)})
    snapshot = await Scraper(target, Clock()).round(1)
    never.set()
    assert snapshot is not None
    rows = dict(zip(((s.name, s.labels) for s in snapshot.series), snapshot.values, strict=True))
    assert only(rows, "node_filesystem_device_error", fstype="nfs4") == 1
    assert only(rows, "node_filesystem_device_error", mountpoint="/") == 0
    assert only(rows, "node_scrape_collector_success", collector="filesystem") == 1
