"""Which names a collector reads, and what is refused."""

from pathlib import Path

import pytest

from tocsin_exporter.collector_settings import CollectorSettings, HostView, InvalidSetting
from tocsin_exporter.collectors.host import host_of


def test_an_include_takes_the_place_of_the_usual_exclude() -> None:
    usual = CollectorSettings().wanted("diskstats.device")
    assert (usual("sda"), usual("sda1"), usual("loop0")) == (True, False, False)
    chosen = CollectorSettings({"diskstats.device-include": "^sda[12]$"}).wanted("diskstats.device")
    assert [name for name in ("sda", "sda1", "sda2", "sdb") if chosen(name)] == ["sda1", "sda2"]


def test_an_empty_exclude_leaves_nothing_out() -> None:
    everything = CollectorSettings({"diskstats.device-exclude": ""}).wanted("diskstats.device")
    assert everything("loop0")


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ({"netdev.device-include": "("}, "is no regular expression"),
        ({"arp.device-include": "a", "arp.device-exclude": "b"}, "rule each other out"),
    ],
)
def test_what_cannot_be_used_is_refused(patterns: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        CollectorSettings(patterns)


def test_collectors_are_on_by_default_as_node_exporters_are() -> None:
    usual = CollectorSettings(collectors={"arp": False})
    assert [usual.enabled(name) for name in ("arp", "cpu", "tcpstat", "gpu")] == [
        *(False, True, False, True)
    ]
    none = CollectorSettings(collectors={"tcpstat": True}, disable_defaults=True)
    assert [none.enabled(name) for name in ("arp", "cpu", "tcpstat", "gpu")] == [
        *(False, False, True, True)
    ]


def test_a_view_of_a_machine_that_is_not_there_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host_of(HostView(procfs=tmp_path, sysfs=tmp_path / "gone", rootfs=tmp_path), lambda: 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "--path.sysfs is no directory: nothing of it is read"
    ]
