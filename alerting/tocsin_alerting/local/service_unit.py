"""`tocsin up` as a systemd service: the unit's text, and where its files lie."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INSTALLED_BY = "TOCSIN_INSTALLED_BY"  # the id of a user
NAME = "tocsin"
UNIT = f"{NAME}.service"
HEADER = "# Written by `tocsin service install`; change it with `systemctl edit tocsin`.\n"

# No option here may give the service a mount namespace of its own, or hide /proc or devices:
# node_filesystem_* would show mounts that are read-only for us alone, and /dev/nvidia* be gone.
_UNIT = """\
[Unit]
Description=Tocsin: watches this machine's language model and pages
Wants=network-online.target
After=network-online.target nss-lookup.target nss-user-lookup.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
{account}{installer}WorkingDirectory=%S/tocsin
StateDirectory=tocsin
StateDirectoryMode=0700
RuntimeDirectory=tocsin
RuntimeDirectoryMode=0750
UMask=0077
StandardOutput=journal
StandardError=journal
SyslogIdentifier=tocsin
Restart=always
RestartSec=2s
RestartPreventExitStatus=2
TimeoutStartSec=15min
TimeoutStopSec=30s
KillMode=mixed
WatchdogSec=2min
LimitNOFILE=65536
{hardening}
[Install]
WantedBy={target}
"""
_ACCOUNT = "User=tocsin\nGroup=tocsin\nOOMScoreAdjust=-900\nConfigurationDirectory=tocsin\n"
# The first is for open files, bytes read and written of other users' processes, the second for
# mounts below closed directories.
_CAPABILITIES = "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
_HARDENING = """\
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
_OF_ROOT = f"""\
CapabilityBoundingSet={_CAPABILITIES}
AmbientCapabilities={_CAPABILITIES}
KeyringMode=private
RemoveIPC=yes
"""
SYSUSERS = HEADER + 'u tocsin - "Tocsin" /var/lib/tocsin\n'
CONFIG = """\
# The configuration of the service. Everything has a default; every key is in
# docs/configuration.md. A change holds a few seconds later; alertctl check FILE tries it before.
version: 1
"""
_PLAIN = re.compile(r"[\w./:=%@,+$-]+")
_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class ServicePaths:
    """Where the files of the service lie; `user` is None for the system's."""

    unit: Path
    wanted: Path  # the link that starts it at boot
    config: Path
    sysusers: Path | None


def service_paths(root: Path, user: Path | None) -> ServicePaths:
    """Below `root`; of the user whose `~/.config` is `user`, or of the system."""
    if user is not None:
        units = user / "systemd" / "user"
        wanted = units / "default.target.wants" / UNIT
        return ServicePaths(units / UNIT, wanted, user / NAME / "tocsin.yml", None)
    etc = root / "etc"
    units = etc / "systemd" / "system"
    return ServicePaths(
        units / UNIT,
        units / "multi-user.target.wants" / UNIT,
        etc / NAME / "tocsin.yml",
        etc / "sysusers.d" / f"{NAME}.conf",
    )


def unit_text(
    program: Path, config: str, arguments: Sequence[str], user: bool, installer: str = ""
) -> str:
    """The unit's text. `program` is the `tocsin` to start, `config` its configuration's path,
    `installer` the id of the user who installs it, whose engines are watched."""
    words = [str(program), "up", "--config.file", config, "--storage.path", "%S/tocsin"]
    command = " ".join([*map(_word, words), *(_word(_escaped(argument)) for argument in arguments)])
    text = _UNIT.format(
        command=command,
        account="" if user else _ACCOUNT,
        installer=f"Environment={INSTALLED_BY}={installer}\n" if installer.isdigit() else "",
        hardening=_HARDENING if user else _HARDENING + _OF_ROOT,
        target="default.target" if user else "multi-user.target",
    )
    return HEADER + text


def unreadable_part(program: Path) -> Path | None:
    """The first part of the path that another user may not pass or read; None when all is open."""
    for part in [*reversed(program.parents), program]:
        if not part.stat().st_mode & 0o001:
            return part
    return None


def _escaped(text: str) -> str:
    """Without the meaning that systemd gives to `%` and `$`."""
    return text.replace("%", "%%").replace("$", "$$")


def _word(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class SystemdRefused(Exception):
    """What systemd's program said."""


def run_systemd(*command: str) -> str:
    """What a program of systemd says. Raises Refused with why it would not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemdRefused(f"{command[0]}: {error}") from None
    if done.returncode:
        output = (done.stderr or done.stdout).strip()
        raise SystemdRefused(f"{' '.join(command)}: {output or f'exit code {done.returncode}'}")
    return done.stdout


def systemd_runs(system: Path = Path("/run/systemd/system")) -> bool:
    """Whether systemd runs this machine, as sd_booted(3) finds out."""
    return system.is_dir()
