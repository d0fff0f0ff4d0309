"""Units of systemd beside node_exporter, which asks the same bus; and one that does not answer."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from prometheus_client import parser as text_parser

from support.fake_systemd import FakeSystemd, Properties, answering, running_bus
from support.node_exporter import page, running_node_exporter
from support.site import table
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.systemd import Systemd
from tocsin_exporter.snapshot import Sample

DETAILS = ("restarts-metrics", "start-time-metrics", "task-metrics")
SERVICE: Mapping[str, tuple[str, object]] = {
    "Type": ("s", "notify"),
    "NRestarts": ("u", 3),
    "TasksCurrent": ("t", 41),
    "TasksMax": ("t", 2**64 - 1),
}
STARTED: Properties = {"Unit": {"ActiveEnterTimestamp": ("t", 1_795_255_284_500_000)}}
UNITS: dict[tuple[str, str, str], Properties] = {
    ("vllm.service", "loaded", "active"): {**STARTED, "Service": SERVICE},
    ("old.service", "loaded", "failed"): {"Service": {"Type": ("s", "oneshot")}},
    ("gone.service", "not-found", "inactive"): {},
    ("backup.timer", "loaded", "active"): {
        **STARTED,
        "Timer": {"LastTriggerUSec": ("t", 1_795_200_000_000_000)},
    },
    ("api.socket", "loaded", "active"): {
        **STARTED,
        "Socket": {"NAccepted": ("u", 9), "NConnections": ("u", 2), "NRefused": ("u", 1)},
    },
    ("srv-models.mount", "loaded", "active"): {"Mount": {"Type": ("s", "xfs")}},
    ("multi-user.target", "loaded", "maintenance"): {},
}


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[FakeSystemd, str]]:
    fake = FakeSystemd(UNITS)
    with running_bus(tmp_path) as address, answering(address, fake):
        yield fake, address


async def read(root: Path, collector: Systemd | None = None, **patterns: str) -> list[Sample]:
    collector = collector or of(root, **patterns)
    try:
        return list(await collector.collect())
    finally:
        collector.close()


def of(root: Path, *switches: str, **patterns: str) -> Systemd:
    named = {f"systemd.unit-{name}": pattern for name, pattern in patterns.items()}
    settings = CollectorSettings(named, frozenset(f"systemd.enable-{s}" for s in switches))
    return Systemd(Host(now=lambda: 0.0, root=root, settings=settings))


async def test_it_says_what_node_exporter_says(
    systemd: tuple[FakeSystemd, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", systemd[1])
    flags = [f"--collector.systemd.enable-{detail}" for detail in DETAILS]
    flags += [r"--collector.systemd.unit-exclude=.+\.(automount|device|scope|slice)"]
    with running_node_exporter(["systemd"], *flags) as exporter:
        text = page(exporter)
    theirs = {
        (s.name, tuple(sorted((k, v) for k, v in s.labels.items() if v))): (s.value, f.type)
        for f in text_parser.text_string_to_metric_families(text)
        for s in f.samples
        if s.name.startswith("node_systemd_")
    }
    shown = of(tmp_path, *DETAILS, exclude=r".+\.(automount|device|scope|slice)")
    samples = await read(tmp_path, shown)
    types = {s.family.name: s.family.type for s in samples}
    ours = {key: (value, types[key[0]]) for key, value in table(samples).items()}
    assert ours == theirs
    assert len(theirs) > 40


async def test_the_usual_units_and_only_what_is_asked_for(
    systemd: tuple[FakeSystemd, str], tmp_path: Path
) -> None:
    rows = table(await read(tmp_path, include=r".*\.(service|mount)"))
    named = {dict(labels).get("name") for name, labels in rows if name.endswith("unit_state")}
    assert named == {"vllm.service", "old.service"}
    assert {name for name, _ in rows} == {
        *("node_systemd_unit_state", "node_systemd_units", "node_systemd_version"),
        "node_systemd_system_running",
    }
    assert rows["node_systemd_units", (("state", "maintenance"),)] == 1


async def test_a_type_is_asked_for_once(systemd: tuple[FakeSystemd, str], tmp_path: Path) -> None:
    collector = of(tmp_path, include=r".*\.service")
    await collector.collect()
    before = systemd[0].asked
    await read(tmp_path, collector)
    assert systemd[0].asked - before == 3  # the list, the version, the state


async def test_more_units_than_are_shown_are_an_error_with_the_first(
    systemd: tuple[FakeSystemd, str], tmp_path: Path
) -> None:
    collector = Systemd(Host(now=lambda: 0.0, root=tmp_path), most_units=1)
    with pytest.raises(CollectorError, match=r"units, of which 1 are shown: choose") as error:
        await read(tmp_path, collector)
    rows = table(error.value.samples)
    assert {dict(labels).get("name") for _, labels in rows} == {None, "vllm.service"}


async def test_a_service_that_does_not_answer_ends_the_reading(
    systemd: tuple[FakeSystemd, str], tmp_path: Path
) -> None:
    systemd[0].silent = frozenset({"old.service"})
    with pytest.raises(CollectorError, match=r"org\.freedesktop\.systemd1 does not answer"):
        await read(tmp_path)


async def test_without_a_bus_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no message bus"):
        await read(tmp_path)


async def test_without_systemd_on_the_bus_it_fails(tmp_path: Path) -> None:
    with running_bus(tmp_path), pytest.raises(CollectorError):
        await read(tmp_path)
