"""The real rsyslogd: the judge of what our syslog messages mean."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.agent_process import free_port

_FIELDS = "pri hostname app-name procid msgid structured-data msg timestamp:::date-rfc3339".split()
_TEMPLATE = ",".join(
    f'\\"{name.partition(":")[0]}\\":\\"%{name}{"" if ":" in name else ":::json"}%\\"'
    for name in _FIELDS
)
_TLS = """
global(defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{folder}/ca.pem"
       defaultNetstreamDriverCertFile="{folder}/cert.pem"
       defaultNetstreamDriverKeyFile="{folder}/key.pem")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1"
       streamDriver.authMode="{auth}")
"""
_CONFIG = """
global(workDirectory="{folder}" maxMessageSize="64k")
{tls}
module(load="imudp")
{plain}
module(load="imuxsock" sysSock.use="off")
input(type="imudp" port="{udp}" address="127.0.0.1")
input(type="imtcp" port="{tcp}" address="127.0.0.1")
input(type="imuxsock" socket="{folder}/log")
template(name="fields" type="string" string="{{{template}}}\\n")
action(type="omfile" file="{folder}/out" template="fields" asyncWriting="off")
"""


@dataclass
class Rsyslog:
    """`tcp` speaks TLS when it was begun with it."""

    folder: Path
    udp: int
    tcp: int

    @property
    def unix(self) -> Path:
        return self.folder / "log"

    def messages(self, count: int) -> list[dict[str, Any]]:
        """Once there are `count` of them."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            out = self.folder / "out"
            # it writes blocks of 4 kB: what stands behind the last newline is not whole yet
            lines = out.read_bytes().split(b"\n")[:-1] if out.exists() else []
            if len(lines) >= count:
                return [json.loads(line) for line in lines]
            time.sleep(0.02)
        raise TimeoutError(f"rsyslog wrote {len(lines)} of {count} messages")


@contextmanager
def running_rsyslog(
    folder: Path, *, tls: trustme.CA | None = None, auth: str = "anon"
) -> Iterator[Rsyslog]:
    """With `auth` x509/certvalid it wants a client's certificate."""
    binary = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin")
    if binary is None:
        pytest.skip("rsyslog is not installed")
    server = Rsyslog(folder, free_port(), free_port())
    if tls is not None:
        certificate = tls.issue_cert("localhost")
        tls.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    config = _CONFIG.format(
        folder=folder,
        udp=server.udp,
        tcp=server.tcp,
        template=_TEMPLATE,
        tls=_TLS.format(folder=folder, auth=auth) if tls else "",
        plain="" if tls else 'module(load="imtcp")',
    )
    (folder / "rsyslog.conf").write_text(config)
    command = [binary, "-n", "-f", f"{folder}/rsyslog.conf", "-i", f"{folder}/pid"]
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(command, stderr=errors)
    try:
        _wait(server, process)
        yield server
    finally:
        process.kill()
        process.wait(20)


def _wait(server: Rsyslog, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 20
    while not (server.unix.exists() and _listens(server.tcp)):
        assert process.poll() is None, (server.folder / "stderr").read_text()
        assert time.monotonic() < until, (server.folder / "stderr").read_text()
        time.sleep(0.02)


def _listens(port: int) -> bool:
    hexadecimal = f"0100007F:{port:04X} 00000000:0000 0A"
    return hexadecimal in Path("/proc/net/tcp").read_text()
