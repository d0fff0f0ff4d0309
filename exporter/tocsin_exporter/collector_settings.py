"""What can be set of the collectors: node_exporter's `--collector.*` flags, by their names.

Light on purpose: the command line reads the names of all options from here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Of the host's collectors, whether each is on without a word. The names are node_exporter's.
ENABLED: Mapping[str, bool] = {
    "arp": True,
    "bcache": True,
    "bonding": True,
    "btrfs": True,
    "buddyinfo": False,
    "cgroups": False,
    "conntrack": True,
    "cpu": True,
    "cpufreq": True,
    "diskstats": True,
    "dmi": True,
    "drbd": False,
    "drm": False,
    "edac": True,
    "entropy": True,
    "fibrechannel": True,
    "filefd": True,
    "filesystem": True,
    "hwmon": True,
    "infiniband": True,
    "interrupts": False,
    "ipvs": True,
    "ksmd": False,
    "lnstat": False,
    "loadavg": True,
    "logind": False,
    "mdadm": True,
    "meminfo": True,
    "meminfo_numa": False,
    "mountstats": False,
    "netclass": True,
    "netdev": True,
    "netstat": True,
    "network_route": False,
    "nfs": True,
    "nfsd": True,
    "nvme": True,
    "os": True,
    "powersupplyclass": True,
    "pressure": True,
    "processes": False,
    "qdisc": False,
    "rapl": True,
    "schedstat": True,
    "selinux": True,
    "slabinfo": False,
    "sockstat": True,
    "softnet": True,
    "stat": True,
    "sysctl": False,
    "systemd": False,
    "tapestats": True,
    "tcpstat": False,
    "textfile": True,
    "thermal_zone": True,
    "time": True,
    "timex": True,
    "udp_queues": True,
    "uname": True,
    "vmstat": True,
    "xfs": True,
    "zfs": True,
    "zoneinfo": False,
}

MOUNTS_EXCLUDED = (
    r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
)
FILESYSTEMS_EXCLUDED = (
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660"
    r"|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs"
    r"|tracefs)$"
)
DISKS_EXCLUDED = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
NETSTAT_FIELDS = (
    r"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)"
    r"|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts)"
    r"|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)"
    r"|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$"
)

# A regular expression each, with its default; "" for none.
PATTERNS: Mapping[str, str] = {
    "arp.device-exclude": "",
    "arp.device-include": "",
    "cpu.info.bugs-include": "",
    "cpu.info.flags-include": "",
    "diskstats.device-exclude": DISKS_EXCLUDED,
    "diskstats.device-include": "",
    "filesystem.fs-types-exclude": FILESYSTEMS_EXCLUDED,
    "filesystem.mount-points-exclude": MOUNTS_EXCLUDED,
    "netclass.ignored-devices": "^$",
    "netdev.device-exclude": "",
    "netdev.device-include": "",
    "netstat.fields": NETSTAT_FIELDS,
    "powersupply.ignored-supplies": "^$",
    "qdisk.device-exclude": "",
    "qdisk.device-include": "",
    "systemd.unit-exclude": r".+\.(automount|device|mount|scope|slice)",
    "systemd.unit-include": ".+",
    "tapestats.ignored-devices": "^$",
    "vmstat.fields": "^(oom_kill|pgpg|pswp|pg.*fault).*",
}
# On or off, and what they do.
SWITCHES: Mapping[str, str] = {
    "bcache.priorityStats": "Read how full the caches of bcache are, which takes long.",
    "cpu.info": "Describe each CPU, as /proc/cpuinfo does.",
    "netclass.ignore-invalid-speed": "Leave out the speed of links that do not know theirs.",
    "systemd.enable-restarts-metrics": "Count how often systemd has restarted each service.",
    "systemd.enable-start-time-metrics": "Show when each unit was started.",
    "systemd.enable-task-metrics": "Count the tasks of each service.",
    "rapl.enable-zone-label": "Name the zones of RAPL by a label, not in the metric's name.",
    "stat.softirq": "Count soft interrupts by vector.",
}
# Each may be given several times, and what for.
LISTS: Mapping[str, str] = {
    "sysctl.include": "Show this kernel parameter, such as fs.file-nr:total,current,max.",
    "sysctl.include-info": "Show the words of this kernel parameter as labels.",
}
IPVS_LABELS = (
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "proto",
    "local_mark",
)
AREAS = ("host", "gpu", "process")  # that can be switched off as a whole


class InvalidSetting(ValueError):
    """A setting that cannot be used: which one, and why."""


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """What was set, by names such as `netdev.device-include`; the rest has its default.

    `lists` are such as were given several times. `collectors` are switched on or off by name; with
    `disable_defaults`, those of the host that are not in it are off. `areas_off` are off whole.

    Raises InvalidSetting for a pattern that is none, or two of which one rules the other out.
    """

    patterns: Mapping[str, str] = field(default_factory=dict)
    switches: frozenset[str] = frozenset()
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    textfile_directory: str = ""
    ipvs_labels: tuple[str, ...] = IPVS_LABELS
    collectors: Mapping[str, bool] = field(default_factory=dict)
    areas_off: frozenset[str] = frozenset()
    disable_defaults: bool = False

    def __post_init__(self) -> None:
        for name, pattern in self.patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise InvalidSetting(
                    f"--collector.{name}: {pattern!r} is no regular expression: {error}"
                ) from None
            other = name.removesuffix("-include") + "-exclude"
            if name.endswith("device-include") and pattern and self.patterns.get(other):
                raise InvalidSetting(
                    f"--collector.{name} and --collector.{other} rule each other out; give one"
                )

        if unknown := [name for name in self.ipvs_labels if name not in IPVS_LABELS]:
            raise InvalidSetting(
                f"--collector.ipvs.backend-labels: {unknown[0]!r} is none of "
                + ", ".join(IPVS_LABELS)
            )

    def over(self, below: "CollectorSettings") -> "CollectorSettings":
        """These, and what `below` says beside them. What either turns off as a whole is off, and a
        switch that either turns on is on. Raises InvalidSetting as the making of one."""
        own_labels = self.ipvs_labels != IPVS_LABELS
        return CollectorSettings(
            patterns={**below.patterns, **self.patterns},
            switches=self.switches | below.switches,
            lists={**below.lists, **self.lists},
            textfile_directory=self.textfile_directory or below.textfile_directory,
            ipvs_labels=self.ipvs_labels if own_labels else below.ipvs_labels,
            collectors={**below.collectors, **self.collectors},
            areas_off=self.areas_off | below.areas_off,
            disable_defaults=self.disable_defaults or below.disable_defaults,
        )

    def enabled(self, collector: str) -> bool:
        if collector in self.collectors:
            return self.collectors[collector]
        if collector not in ENABLED:  # not of the host
            return True
        return ENABLED[collector] and not self.disable_defaults

    def pattern(self, name: str) -> re.Pattern[str]:
        """The expression of that name; an empty one matches everything."""
        return re.compile(self.patterns.get(name, PATTERNS[name]))

    def whole(self, name: str) -> Callable[[str], bool]:
        """Whether a whole name matches the pattern of that name."""
        matches = self.pattern(name).fullmatch
        return lambda text: matches(text) is not None

    def wanted(self, prefix: str) -> Callable[[str], bool]:
        """Whether a name passes `PREFIX-include`, or without one `PREFIX-exclude`."""
        if include := self.patterns.get(f"{prefix}-include"):
            return _matches(include)
        excluded = self.patterns.get(f"{prefix}-exclude", PATTERNS[f"{prefix}-exclude"])
        matches = _matches(excluded)
        return lambda name: not (excluded and matches(name))


@dataclass(frozen=True, slots=True)
class HostView:
    """Where a machine is seen from, which may be a container, and what is read of it."""

    settings: CollectorSettings = CollectorSettings()
    procfs: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    rootfs: Path = Path("/")
    udev_data: Path = Path("/run/udev/data")

    def flags(self) -> dict[str, str]:
        """Each flag with what holds."""
        own = self.settings
        paths = {"procfs": self.procfs, "sysfs": self.sysfs, "rootfs": self.rootfs}
        switched = {area: area not in own.areas_off for area in AREAS}
        switched |= {name: own.enabled(name) for name in ENABLED}
        switched |= {name: name in own.switches for name in SWITCHES}
        switched["disable-defaults"] = own.disable_defaults
        texts = {name: own.patterns.get(name, usual) for name, usual in PATTERNS.items()}
        texts |= {name: " ".join(own.lists.get(name, ())) for name in LISTS}
        texts["textfile.directory"] = own.textfile_directory
        texts["ipvs.backend-labels"] = ",".join(own.ipvs_labels)
        return {
            **{f"path.{name}": str(path) for name, path in paths.items()},
            "path.udev.data": str(self.udev_data),
            **{f"collector.{name}": str(is_on).lower() for name, is_on in switched.items()},
            **{f"collector.{name}": text for name, text in texts.items()},
        }


def _matches(pattern: str) -> Callable[[str], bool]:
    search = re.compile(pattern).search
    return lambda name: search(name) is not None
