"""node_exporter's flags, as both commands take them."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tocsin_alerting.cli.collector_options import collector_options
from tocsin_alerting.cli.commands import tocsin
from tocsin_exporter.collector_settings import ENABLED, HostView

ON = """
    --collector.arp --collector.bcache --collector.bonding --collector.btrfs
    --collector.conntrack --collector.cpu --collector.cpufreq --collector.diskstats
    --collector.dmi --collector.edac --collector.entropy --collector.fibrechannel
    --collector.filefd --collector.filesystem --collector.hwmon --collector.infiniband
    --collector.ipvs --collector.loadavg --collector.mdadm --collector.meminfo
    --collector.netclass --collector.netdev --collector.netstat --collector.nfs
    --collector.nfsd --collector.nvme --collector.os --collector.powersupplyclass
    --collector.pressure --collector.rapl --collector.schedstat --collector.selinux
    --collector.sockstat --collector.softnet --collector.stat --collector.tapestats
    --collector.textfile --collector.thermal_zone --collector.time --collector.timex
    --collector.udp_queues --collector.uname --collector.vmstat --collector.xfs --collector.zfs
""".split()
OFF = """
    --collector.buddyinfo --collector.cgroups --collector.drbd --collector.drm
    --collector.interrupts --collector.ksmd --collector.lnstat --collector.logind
    --collector.meminfo_numa --collector.mountstats --collector.network_route
    --collector.processes --collector.qdisc --collector.slabinfo --collector.sysctl
    --collector.systemd --collector.tcpstat --collector.zoneinfo
""".split()


def view(*flags: str) -> HostView:
    """What a command with these flags is told."""
    told: list[HostView] = []

    @click.command()
    @collector_options
    def command(machine: HostView) -> None:
        told.append(machine)

    done = CliRunner().invoke(command, flags, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return told[0]


def enabled(*flags: str) -> set[str]:
    settings = view(*flags).settings
    return {name for name in ENABLED if settings.enabled(name)}


def test_without_a_flag_it_is_node_exporters_default() -> None:
    assert view() == HostView()
    assert {f"--collector.{name}" for name in enabled()} == set(ON)
    assert {f"--collector.{name}" for name in ENABLED} == {*ON, *OFF}


@pytest.mark.parametrize("flag", [*ON, *OFF])
def test_each_collector_can_be_switched(flag: str) -> None:
    name, none = flag.removeprefix("--collector."), "--collector.disable-defaults"
    assert enabled(none, flag) == {name}
    assert name not in enabled(flag.replace("--collector", "--no-collector"))


def test_areas_are_switched_as_a_whole() -> None:
    off = view("--no-collector.gpu", "--no-collector.process", "--collector.host")
    assert off.settings.areas_off == {"gpu", "process"}
    assert view("--no-collector.host", "--collector.gpu").settings.areas_off == {"host"}
    assert view("--collector.process").settings.areas_off == frozenset()


@pytest.mark.parametrize(
    ("option", "prefix", "kept", "left_out"),
    [
        ("--collector.arp.device-include", "arp.device", "eth0", "lo"),
        ("--collector.diskstats.device-include", "diskstats.device", "eth0", "lo"),
        ("--collector.netdev.device-include", "netdev.device", "eth0", "lo"),
        ("--collector.qdisk.device-include", "qdisk.device", "eth0", "lo"),
        ("--collector.arp.device-exclude", "arp.device", "lo", "eth0"),
        ("--collector.qdisk.device-exclude", "qdisk.device", "lo", "eth0"),
        ("--collector.diskstats.device-exclude", "diskstats.device", "lo", "eth0"),
        ("--collector.netdev.device-exclude", "netdev.device", "lo", "eth0"),
        ("--collector.filesystem.fs-types-exclude", "filesystem.fs-types", "lo", "eth0"),
        ("--collector.filesystem.mount-points-exclude", "filesystem.mount-points", "lo", "eth0"),
    ],
)
def test_names_are_kept_and_left_out(option: str, prefix: str, kept: str, left_out: str) -> None:
    wanted = view(f"{option}=^eth").settings.wanted(prefix)
    assert (wanted(kept), wanted(left_out)) == (True, False)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--collector.netclass.ignored-devices", "netclass.ignored-devices"),
        ("--collector.powersupply.ignored-supplies", "powersupply.ignored-supplies"),
        ("--collector.tapestats.ignored-devices", "tapestats.ignored-devices"),
        ("--collector.netstat.fields", "netstat.fields"),
        ("--collector.vmstat.fields", "vmstat.fields"),
        ("--collector.cpu.info.flags-include", "cpu.info.flags-include"),
        ("--collector.cpu.info.bugs-include", "cpu.info.bugs-include"),
    ],
)
def test_names_are_matched(option: str, name: str) -> None:
    assert view(f"{option}=^x").settings.pattern(name).search("xy")
    assert name.endswith("-include") or not view().settings.pattern(name).search("xy")


def test_units_have_to_match_as_a_whole() -> None:
    usual = view().settings
    assert usual.whole("systemd.unit-include")("a.service")
    assert usual.whole("systemd.unit-exclude")("a.mount")
    assert not usual.whole("systemd.unit-exclude")("a.mount.service")
    assert not view("--collector.systemd.unit-include=b").settings.whole("systemd.unit-include")(
        "ab"
    )
    assert view("--collector.systemd.unit-exclude=.*b").settings.whole("systemd.unit-exclude")("ab")


def test_paths_and_switches() -> None:
    seen = view(
        *("--path.procfs=/h/proc", "--path.sysfs=/h/sys", "--path.rootfs=/h"),
        *("--path.udev.data=/h/udev", "--collector.netclass.ignore-invalid-speed"),
        "--collector.textfile.directory=/h/text",
    )
    where = seen.procfs, seen.sysfs, seen.rootfs, seen.udev_data
    assert where == (Path("/h/proc"), Path("/h/sys"), Path("/h"), Path("/h/udev"))
    assert seen.settings.switches == {"netclass.ignore-invalid-speed"}
    assert seen.settings.textfile_directory == "/h/text"


@pytest.mark.parametrize(
    "switch",
    [
        *("--collector.bcache.priorityStats", "--collector.cpu.info", "--collector.stat.softirq"),
        "--collector.rapl.enable-zone-label",
        "--collector.systemd.enable-restarts-metrics",
        "--collector.systemd.enable-start-time-metrics",
        "--collector.systemd.enable-task-metrics",
    ],
)
def test_details_are_switched_on(switch: str) -> None:
    assert view(switch).settings.switches == {switch.removeprefix("--collector.")}


def test_kernel_parameters_are_named_several_times() -> None:
    seen = view(
        *("--collector.sysctl.include=fs.file-nr", "--collector.sysctl.include=vm.swappiness"),
        "--collector.sysctl.include-info=kernel.ostype",
    )
    assert seen.settings.lists == {
        "sysctl.include": ("fs.file-nr", "vm.swappiness"),
        "sysctl.include-info": ("kernel.ostype",),
    }


def test_labels_of_servers_are_chosen() -> None:
    seen = view("--collector.ipvs.backend-labels=proto,local_port")
    assert seen.settings.ipvs_labels == ("proto", "local_port")


@pytest.mark.parametrize("command", ["exporter", "up"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--collector.netdev.device-include=("], "'(' is no regular expression"),
        (
            ["--collector.arp.device-include=a", "--collector.arp.device-exclude=b"],
            "rule each other out",
        ),
        (["--collector.tmex"], "No such option"),
        (["--collector.ipvs.backend-labels=port"], "'port' is none of local_address, local_port"),
    ],
)
def test_what_cannot_be_used_is_wrong_usage(command: str, flags: list[str], said: str) -> None:
    done = CliRunner().invoke(tocsin, [command, *flags])
    assert done.exit_code == 2
    assert said in done.output
