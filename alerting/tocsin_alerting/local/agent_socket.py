"""The Unix socket by which `alertctl` on this machine reaches the agent: its file says who may.

It lies in the service's runtime directory, else in the data directory, and is open to the agent's
user and to the group `tocsin`.
"""

import grp
import logging
import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

NAME = "agent.sock"
GROUP = "tocsin"
_MODE = 0o660
_BACKLOG = 128
_SYSTEM_DIRECTORY = Path("/run/tocsin")


def socket_path(env: Mapping[str, str], storage: str) -> Path:
    """Where the agent makes it; systemd names the runtime directory, of several the first."""
    runtime = env.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(runtime or storage) / NAME


def listen(path: Path) -> socket.socket | None:
    """A listening socket, in place of one that an agent left behind; None where there can be none,
    which the log says: the agent pages without it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        before = os.umask(0o777 & ~_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        _give_to_group(path)
        listener.listen(_BACKLOG)
    except OSError as error:
        log.warning(
            "failed to create the Unix socket; alertctl needs --url and a token",
            extra={"path": str(path), "error": error.strerror or str(error)},
        )
        listener.close()
        return None
    return listener


def candidates(env: Mapping[str, str]) -> Iterator[Path]:
    """Where `alertctl` finds it, the nearest agent first. A file of a stranger is none: it would be
    told what was meant for the agent."""
    storage = env.get("TOCSIN_STORAGE_PATH", "data")
    session = env.get("XDG_RUNTIME_DIR", "")
    places = [socket_path(env, storage), Path(storage) / NAME]
    places += [Path(session) / "tocsin" / NAME] if session else []
    for path in dict.fromkeys([*places, _SYSTEM_DIRECTORY / NAME]):
        try:
            trusted = path.is_socket() and path.stat().st_uid in _owners()
        except OSError:
            continue
        if trusted:
            yield path


def answers(path: Path) -> bool:
    """Whether somebody listens who lets us in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _owners() -> set[int]:
    owners = {0, os.geteuid()}
    try:
        owners.add(pwd.getpwnam(GROUP).pw_uid)
    except KeyError:
        pass
    return owners


def _give_to_group(path: Path) -> None:
    """As far as we may: a user gives a file to a group that he is in."""
    try:
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
    except (KeyError, PermissionError):
        return
