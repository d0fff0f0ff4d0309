"""Every collector there is: one file, one line here, one test each.

`area` is what a scrape may ask for (`collect[]=gpu`). A *cheap* one is read anew at each scrape,
because it takes microseconds and cannot wait; the others' readings come from the last round.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tocsin_exporter.collectors.bcache import bcache
from tocsin_exporter.collectors.block_devices import drbd, tapestats
from tocsin_exporter.collectors.btrfs import btrfs
from tocsin_exporter.collectors.collector import Collector
from tocsin_exporter.collectors.containers import ContainerGroups
from tocsin_exporter.collectors.cpu import cpu
from tocsin_exporter.collectors.devices import bonding, edac, mdadm, nvme
from tocsin_exporter.collectors.diskstats import diskstats
from tocsin_exporter.collectors.drm import drm
from tocsin_exporter.collectors.fabrics import fibrechannel, infiniband, xfs
from tocsin_exporter.collectors.filefd import filefd
from tocsin_exporter.collectors.filesystem import Filesystem
from tocsin_exporter.collectors.gpu import gpu
from tocsin_exporter.collectors.gpu_amd import gpu_amd
from tocsin_exporter.collectors.gpu_intel import gpu_intel
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.hwmon import hwmon
from tocsin_exporter.collectors.interrupts import cgroups, interrupts
from tocsin_exporter.collectors.ipvs import ipvs
from tocsin_exporter.collectors.loadavg import loadavg
from tocsin_exporter.collectors.logind import Logind
from tocsin_exporter.collectors.meminfo import meminfo
from tocsin_exporter.collectors.memory_tables import (
    buddyinfo,
    ksmd,
    meminfo_numa,
    slabinfo,
    zoneinfo,
)
from tocsin_exporter.collectors.mountstats import mountstats
from tocsin_exporter.collectors.netclass import Netclass
from tocsin_exporter.collectors.netdev import netdev
from tocsin_exporter.collectors.netstat import netstat
from tocsin_exporter.collectors.network_tables import arp, conntrack, lnstat, softnet, udp_queues
from tocsin_exporter.collectors.nfs import nfs, nfsd
from tocsin_exporter.collectors.own import own_process
from tocsin_exporter.collectors.power import cpufreq, powersupplyclass, rapl, thermal_zone
from tocsin_exporter.collectors.pressure import pressure
from tocsin_exporter.collectors.process_counts import process_counts
from tocsin_exporter.collectors.processes import Processes
from tocsin_exporter.collectors.rtnetlink import network_route, qdisc
from tocsin_exporter.collectors.sockstat import sockstat
from tocsin_exporter.collectors.stat import stat
from tocsin_exporter.collectors.sysctl import sysctl
from tocsin_exporter.collectors.system import dmi, entropy, release, schedstat, selinux
from tocsin_exporter.collectors.systemd import Systemd
from tocsin_exporter.collectors.tcpstat import tcpstat
from tocsin_exporter.collectors.textfile import Textfile
from tocsin_exporter.collectors.time import time
from tocsin_exporter.collectors.timex import timex
from tocsin_exporter.collectors.uname import uname
from tocsin_exporter.collectors.vmstat import vmstat
from tocsin_exporter.collectors.zfs import zfs


@dataclass(frozen=True, slots=True)
class CollectorEntry:
    """How a collector is made and where it belongs."""

    area: str
    make: Callable[[Host], Collector]
    cheap: bool = False


# The names of the host's are node_exporter's, as in its --collector.<name>.
COLLECTORS: dict[str, CollectorEntry] = {
    "arp": CollectorEntry("host", arp, cheap=True),
    "bcache": CollectorEntry("host", bcache),
    "bonding": CollectorEntry("host", bonding),
    "btrfs": CollectorEntry("host", btrfs),
    "buddyinfo": CollectorEntry("host", buddyinfo),
    "cgroups": CollectorEntry("host", cgroups),
    "conntrack": CollectorEntry("host", conntrack, cheap=True),
    "cpu": CollectorEntry("host", cpu, cheap=True),
    "cpufreq": CollectorEntry("host", cpufreq),
    "diskstats": CollectorEntry("host", diskstats, cheap=True),
    "dmi": CollectorEntry("host", dmi),
    "drbd": CollectorEntry("host", drbd),
    "drm": CollectorEntry("host", drm),
    "edac": CollectorEntry("host", edac),
    "entropy": CollectorEntry("host", entropy, cheap=True),
    "fibrechannel": CollectorEntry("host", fibrechannel),
    "filefd": CollectorEntry("host", filefd, cheap=True),
    "filesystem": CollectorEntry("host", Filesystem),
    "hwmon": CollectorEntry("host", hwmon),
    "infiniband": CollectorEntry("host", infiniband),
    "interrupts": CollectorEntry("host", interrupts),
    "ipvs": CollectorEntry("host", ipvs),
    "ksmd": CollectorEntry("host", ksmd),
    "lnstat": CollectorEntry("host", lnstat),
    "loadavg": CollectorEntry("host", loadavg, cheap=True),
    "logind": CollectorEntry("host", Logind),
    "mdadm": CollectorEntry("host", mdadm),
    "meminfo": CollectorEntry("host", meminfo, cheap=True),
    "meminfo_numa": CollectorEntry("host", meminfo_numa),
    "mountstats": CollectorEntry("host", mountstats),
    "netclass": CollectorEntry("host", Netclass),
    "netdev": CollectorEntry("host", netdev, cheap=True),
    "netstat": CollectorEntry("host", netstat, cheap=True),
    "network_route": CollectorEntry("host", network_route),
    "nfs": CollectorEntry("host", nfs),
    "nfsd": CollectorEntry("host", nfsd),
    "nvme": CollectorEntry("host", nvme),
    "os": CollectorEntry("host", release),
    "powersupplyclass": CollectorEntry("host", powersupplyclass),
    "pressure": CollectorEntry("host", pressure, cheap=True),
    "processes": CollectorEntry("host", process_counts),
    "qdisc": CollectorEntry("host", qdisc),
    "rapl": CollectorEntry("host", rapl),
    "schedstat": CollectorEntry("host", schedstat, cheap=True),
    "selinux": CollectorEntry("host", selinux),
    "slabinfo": CollectorEntry("host", slabinfo),
    "sockstat": CollectorEntry("host", sockstat, cheap=True),
    "softnet": CollectorEntry("host", softnet, cheap=True),
    "stat": CollectorEntry("host", stat, cheap=True),
    "sysctl": CollectorEntry("host", sysctl),
    "systemd": CollectorEntry("host", Systemd),
    "tapestats": CollectorEntry("host", tapestats),
    "tcpstat": CollectorEntry("host", tcpstat),
    "thermal_zone": CollectorEntry("host", thermal_zone),
    "time": CollectorEntry("host", time, cheap=True),
    "timex": CollectorEntry("host", timex, cheap=True),
    "udp_queues": CollectorEntry("host", udp_queues),
    "uname": CollectorEntry("host", uname),
    "vmstat": CollectorEntry("host", vmstat, cheap=True),
    "xfs": CollectorEntry("host", xfs),
    "zfs": CollectorEntry("host", zfs),
    "zoneinfo": CollectorEntry("host", zoneinfo),
    "textfile": CollectorEntry("host", Textfile),  # the last: ours win over what is left there
    "gpu": CollectorEntry("gpu", gpu),
    "gpu_amd": CollectorEntry("gpu", gpu_amd),
    "gpu_intel": CollectorEntry("gpu", gpu_intel),
    "containers": CollectorEntry("process", ContainerGroups),
    "process_groups": CollectorEntry("process", Processes),
    "process": CollectorEntry("tocsin", own_process, cheap=True),
}

__all__ = ["COLLECTORS", "Collector", "CollectorEntry", "Host"]
