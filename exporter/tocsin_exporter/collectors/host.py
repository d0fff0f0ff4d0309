"""Where collectors look: every path, call and clock that they need from outside."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tocsin_exporter.collector_settings import CollectorSettings, HostView
from tocsin_exporter.collectors.program import Matcher, by_start
from tocsin_exporter.engine_targets import EngineTargets
from tocsin_exporter.simulation.machine import Machine

log = logging.getLogger(__name__)

# What was started, from its beginning: the executable or the script, without its directory, and its
# arguments. Narrow on purpose: what only names vLLM would hide that vLLM has died.
PROCESS_GROUPS: Mapping[str, Matcher] = {
    name: by_start(pattern)
    for name, pattern in {
        "tocsin-worker": r"tocsin worker\b|-m tocsin_inference\b",
        "tocsin": r"tocsin (up|exporter)\b",
        "vllm": r"VLLM::|vllm serve\b|-m vllm(\.| serve\b)",
        "sglang": r"sglang::|sglang serve\b|-m sglang\.",
        "tgi": r"text-generation-",
        "llama-server": r"llama-server( |$)",
    }.items()
}


@dataclass(frozen=True, slots=True)
class Host:
    """One machine as collectors see it; a recorded directory makes another.

    `root` is where the host's root directory is mounted (a container's /host). `now` gives Unix
    seconds. `mount_seconds` is how long a mount may take to answer.
    `gpus` is how many there have to be, None for as many as are ever seen. `gpu_hostname` is a
    label more for DCGM's names (`Hostname` or `hostname`, as dcgm-exporter has it).
    `simulated_gpus` are read in place of real ones.
    `engine_targets` are those of engines that have none of their own.
    `process_groups` are watched beside the usual ones, and win over them by name and by process.
    """

    now: Callable[[], float]
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    udev: Path = Path("/run/udev/data")
    root: Path = Path("/")
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs
    mount_seconds: float = 1.0
    gpus: int | None = None
    gpu_hostname: Mapping[str, str] = field(default_factory=dict)
    simulated_gpus: Machine | None = None
    machine: str = os.uname().machine
    settings: CollectorSettings = CollectorSettings()
    process_groups: Mapping[str, Matcher] = field(default_factory=dict)
    engine_targets: EngineTargets = EngineTargets()


def host_of(view: HostView, now: Callable[[], float], **more: Any) -> Host:
    """The machine of that view; `now` gives Unix seconds, `more` are other fields.

    What is not there is said: each collector below it has nothing to read, which is no failure.
    """
    for flag, path in (("procfs", view.procfs), ("sysfs", view.sysfs), ("rootfs", view.rootfs)):
        if not os.path.isdir(path):  # which is no error where it may not be looked at
            said = {"path": str(path)}
            log.warning("--path.%s is no directory: nothing of it is read", flag, extra=said)
    return Host(
        now=now,
        proc=view.procfs,
        sys=view.sysfs,
        udev=view.udev_data,
        root=view.rootfs,
        settings=view.settings,
        **more,
    )
