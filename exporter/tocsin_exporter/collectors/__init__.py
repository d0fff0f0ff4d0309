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
from tocsin_exporter.collectors.loadavg import loadavg
from tocsin_exporter.collectors.meminfo import meminfo
from tocsin_exporter.collectors.netclass import Netclass
from tocsin_exporter.collectors.netdev import netdev
from tocsin_exporter.collectors.netstat import netstat
from tocsin_exporter.collectors.own import own_process
from tocsin_exporter.collectors.pressure import pressure
from tocsin_exporter.collectors.processes import Processes
from tocsin_exporter.collectors.site import Site
from tocsin_exporter.collectors.sockstat import sockstat
from tocsin_exporter.collectors.stat import stat
from tocsin_exporter.collectors.time import time
from tocsin_exporter.collectors.uname import uname
from tocsin_exporter.collectors.vmstat import vmstat


@dataclass(frozen=True, slots=True)
class Entry:
    """How a collector is made and where it belongs."""

    area: str
    make: Callable[[Site], Collector]
    cheap: bool = False


# The names of the host's are node_exporter's, as in its --collector.<name>.
COLLECTORS: dict[str, Entry] = {
    "cpu": Entry("host", cpu, cheap=True),
    "diskstats": Entry("host", diskstats, cheap=True),
    "filefd": Entry("host", filefd, cheap=True),
    "filesystem": Entry("host", Filesystem),
    "loadavg": Entry("host", loadavg, cheap=True),
    "meminfo": Entry("host", meminfo, cheap=True),
    "netclass": Entry("host", Netclass),
    "netdev": Entry("host", netdev, cheap=True),
    "netstat": Entry("host", netstat, cheap=True),
    "pressure": Entry("host", pressure, cheap=True),
    "sockstat": Entry("host", sockstat, cheap=True),
    "stat": Entry("host", stat, cheap=True),
    "time": Entry("host", time, cheap=True),
    "uname": Entry("host", uname),
    "vmstat": Entry("host", vmstat, cheap=True),
    "gpu": Entry("gpu", gpu),
    "processes": Entry("process", Processes),
    "process": Entry("tocsin", own_process, cheap=True),
}

__all__ = ["COLLECTORS", "Collector", "Entry", "Site"]
