"""An exporter on a machine where much goes wrong at once, in a process of its own.

Run as a program: `troubled_exporter.py PORT ENGINE...`. One mount hangs and one disk is full, one
GPU of three hangs and one is lost. Lines on its standard input do more: `kill NAME` ends threads
as a crashing library would, `jump SECONDS` sets the clock, `log LINES` writes so many.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from dataclasses import replace

import uvloop

from support.killed_threads import kill
from support.site import recorded_site, statvfs
from tocsin_exporter import logs, output
from tocsin_exporter.clock import Clock
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.exporter import ExporterOptions, serve
from tocsin_exporter.listen import bind
from tocsin_exporter.simulation.machine import ConstantLoad, Fault, GpuModel, Machine

HUNG_MOUNT, FULL_DISK = "/mnt/nfs share", "/"
FAULTS = (Fault("hang", gpu=0, after=2), Fault("lost", gpu=1, after=2))
log = logging.getLogger(__name__)


class Wall:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def answer(path: str) -> os.statvfs_result:
    if path == HUNG_MOUNT:
        threading.Event().wait()
    said = list(statvfs(path))
    return os.statvfs_result([*said[:3], 0, 0, *said[5:]]) if path == FULL_DISK else statvfs(path)


def obey(wall: Wall) -> None:
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "kill":
            kill(rest)
        elif word == "jump":
            wall.ahead += float(rest)
        elif word == "log":
            for number in range(int(rest)):
                log.error("something failed %s", f"{number} {'x' * 1000}")


def main(port: int, engines: list[str]) -> None:
    output.install()
    logs.configure("info", "logfmt")
    wall = Wall()
    threading.Thread(target=obey, args=(wall,), daemon=True).start()
    model = GpuModel("NVIDIA L40S", 1 << 35, ConstantLoad(0.5))
    machine = Machine((model,) * 3, FAULTS)
    host = replace(recorded_site(statvfs=answer), now=wall, simulated_gpus=machine)
    options = ExporterOptions(engines=[EngineAccess.of(url) for url in engines])
    sockets = [bind(f"127.0.0.1:{port}")]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, sockets, Clock(wall), host))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
