"""Where collectors look: every path, call and clock that they need from outside."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# The defaults of node_exporter.
MOUNTS_EXCLUDED = (
    r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
)
FILESYSTEMS_EXCLUDED = (
    r"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660"
    r"|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs"
    r"|tracefs)$"
)
DISKS_EXCLUDED = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"

# What is looked for in "name command line" of every process; the first group that fits has it.
# Narrow on purpose: a `grep vllm` that counted as vLLM would hide that vLLM has died.
PROCESS_GROUPS = {
    "tocsin-worker": r"\btocsin worker\b|-m tocsin_inference\b",
    "tocsin": r"\btocsin (up|exporter)\b",
    "vllm": r"^VLLM::|\bvllm serve\b|-m vllm\.",
    "sglang": r"^sglang::|\bsglang serve\b|-m sglang\.",
    "tgi": r"^text-generation",
    "llama-server": r"^llama-server\b",
}


@dataclass(frozen=True, slots=True)
class Site:
    """One machine as collectors see it; a recorded directory makes another.

    `root` is where the host's root directory is mounted (a container's /host). `now` gives Unix
    seconds. `mount_seconds` is how long a mount may take to answer.
    """

    now: Callable[[], float]
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    udev: Path = Path("/run/udev/data")
    root: Path = Path("/")
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs
    mount_seconds: float = 1.0
    machine: str = os.uname().machine
    mounts_excluded: str = MOUNTS_EXCLUDED
    filesystems_excluded: str = FILESYSTEMS_EXCLUDED
    disks_excluded: str = DISKS_EXCLUDED
    process_groups: Mapping[str, str] = field(default_factory=lambda: dict(PROCESS_GROUPS))

    def __post_init__(self) -> None:
        for pattern in (self.mounts_excluded, self.filesystems_excluded, self.disks_excluded):
            re.compile(pattern)
