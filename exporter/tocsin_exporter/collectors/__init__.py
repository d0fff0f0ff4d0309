"""Every collector there is: one file, one line here, one test each.

`area` is what a scrape may ask for (`collect[]=gpu`). A *cheap* one is read anew at each scrape,
because it takes microseconds and cannot wait; the others' readings come from the last round.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tocsin_exporter.collectors.collector import Collector
from tocsin_exporter.collectors.cpu import cpu
from tocsin_exporter.collectors.diskstats import diskstats
from tocsin_exporter.collectors.filefd import filefd
from tocsin_exporter.collectors.filesystem import Filesystem
from tocsin_exporter.collectors.gpu import gpu
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.loadavg import loadavg
from tocsin_exporter.collectors.meminfo import meminfo
from tocsin_exporter.collectors.netclass import Netclass
from tocsin_exporter.collectors.netdev import netdev
from tocsin_exporter.collectors.netstat import netstat
from tocsin_exporter.collectors.own import own_process
from tocsin_exporter.collectors.pressure import pressure
from tocsin_exporter.collectors.processes import Processes
from tocsin_exporter.collectors.sockstat import sockstat
from tocsin_exporter.collectors.stat import stat
from tocsin_exporter.collectors.time import time
from tocsin_exporter.collectors.uname import uname
from tocsin_exporter.collectors.vmstat import vmstat


@dataclass(frozen=True, slots=True)
class CollectorEntry:
    """How a collector is made and where it belongs."""

    area: str
    make: Callable[[Host], Collector]
    cheap: bool = False


# The names of the host's are node_exporter's, as in its --collector.<name>.
COLLECTORS: dict[str, CollectorEntry] = {
    "cpu": CollectorEntry("host", cpu, cheap=True),
    "diskstats": CollectorEntry("host", diskstats, cheap=True),
    "filefd": CollectorEntry("host", filefd, cheap=True),
    "filesystem": CollectorEntry("host", Filesystem),
    "loadavg": CollectorEntry("host", loadavg, cheap=True),
    "meminfo": CollectorEntry("host", meminfo, cheap=True),
    "netclass": CollectorEntry("host", Netclass),
    "netdev": CollectorEntry("host", netdev, cheap=True),
    "netstat": CollectorEntry("host", netstat, cheap=True),
    "pressure": CollectorEntry("host", pressure, cheap=True),
    "sockstat": CollectorEntry("host", sockstat, cheap=True),
    "stat": CollectorEntry("host", stat, cheap=True),
    "time": CollectorEntry("host", time, cheap=True),
    "uname": CollectorEntry("host", uname),
    "vmstat": CollectorEntry("host", vmstat, cheap=True),
    "gpu": CollectorEntry("gpu", gpu),
    "processes": CollectorEntry("process", Processes),
    "process": CollectorEntry("tocsin", own_process, cheap=True),
}

__all__ = ["COLLECTORS", "Collector", "CollectorEntry", "Host"]
