"""`collectors` of the configuration: node_exporter's flags, checked at their place."""

from dataclasses import replace
from pathlib import Path

import pytest

from tocsin_alerting.config.collectors import collector_settings
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import load
from tocsin_alerting.config.reading import needs_restart
from tocsin_alerting.listeners import WrongUsage
from tocsin_alerting.startup import UpOptions, flags, load_config, machine_view
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter.collector_settings import CollectorSettings, HostView


def written(folder: Path, text: str) -> Path:
    path = folder / "t.yml"
    path.write_text(text)
    return path


def read(folder: Path, text: str) -> Config:
    return load(written(folder, text), {})


ALL = """
collectors:
  tcpstat: true
  rapl: false
  gpu: false
  cpu.info: true
  stat.softirq: false
  disable-defaults: true
  netdev.device-exclude: ^veth
  textfile.directory: /srv/metrics
  sysctl.include: [fs.file-nr, vm.swappiness]
  ipvs.backend-labels: remote_address,remote_port
"""


def test_every_kind_of_setting_is_a_flags(tmp_path: Path) -> None:
    assert collector_settings(read(tmp_path, ALL).collectors) == CollectorSettings(
        patterns={"netdev.device-exclude": "^veth"},
        switches=frozenset({"cpu.info"}),
        lists={"sysctl.include": ("fs.file-nr", "vm.swappiness")},
        textfile_directory="/srv/metrics",
        ipvs_labels=("remote_address", "remote_port"),
        collectors={"tcpstat": True, "rapl": False},
        areas_off=frozenset({"gpu"}),
        disable_defaults=True,
    )
    assert collector_settings({}) == CollectorSettings()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("netdev.device-exclud: a", ':2:3: collectors.netdev.device-exclud: no collector or setting'
         ' of one is called "netdev.device-exclud"; did you mean "netdev.device-exclude"?'),
        ("zzzzzzzzzz: true", "docs/exporter.md has all of them"),
        ("--collector.rapl: false", ':2:3: collectors.--collector.rapl: write "rapl", without'),
        ("cpu: 5", "collectors.cpu: must be true or false, a text, or a list of texts"),
        ("sysctl.include: []", "must be true or false, a text, or a list of texts"),
        ('cpu: "yes"', ":2:3: collectors: cpu: must be true or false"),
        ("netdev.device-include: true", "netdev.device-include: must be a text"),
        ("sysctl.include: fs.file-nr", "sysctl.include: must be a list of texts"),
        ('netdev.device-include: "("', "netdev.device-include: '(' is no regular expression"),
        ("{netdev.device-include: a, netdev.device-exclude: b}", "rule each other out; give one"),
        ("ipvs.backend-labels: cat", "'cat' is none of local_address"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidDocument) as raised:
        read(tmp_path, f"collectors:\n  {line}\n")
    assert said in str(raised.value) and "--collector.ne" not in str(raised.value)


def test_a_flag_goes_before_the_file_and_what_holds_is_told(tmp_path: Path) -> None:
    own = CollectorSettings(
        collectors={"tcpstat": False, "zoneinfo": True},
        patterns={"netdev.device-exclude": "^tap"},
        switches=frozenset({"stat.softirq"}),
        textfile_directory="/other",
    )
    options = UpOptions(config_file=written(tmp_path, ALL), machine=HostView(own, Path("/p")))
    config = load_config(options)
    view = machine_view(options, config)
    assert view.procfs == Path("/p")
    assert view.settings == replace(
        collector_settings(config.collectors),
        collectors={"tcpstat": False, "rapl": False, "zoneinfo": True},
        patterns={"netdev.device-exclude": "^tap"},
        switches=frozenset({"cpu.info", "stat.softirq"}),
        textfile_directory="/other",
    )
    told = flags(options, config, "info", "logfmt")
    assert told["collector.tcpstat"] == told["collector.gpu"] == told["collector.cpu"] == "false"
    assert told["collector.zoneinfo"] == told["collector.disable-defaults"] == "true"
    assert told["collector.sysctl.include"] == "fs.file-nr vm.swappiness"


def test_a_flag_that_rules_out_what_the_file_says_is_refused(tmp_path: Path) -> None:
    include = CollectorSettings(patterns={"netdev.device-include": "^eth"})
    options = UpOptions(config_file=written(tmp_path, ALL), machine=HostView(include))
    with pytest.raises(WrongUsage, match=r"rule each other out; give one: the configuration"):
        load_config(options)


def test_a_change_needs_a_restart(tmp_path: Path) -> None:
    assert needs_restart(read(tmp_path, ""), read(tmp_path, ALL)) == ["collectors"]
