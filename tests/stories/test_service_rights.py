"""With the rights of the service, and no more, the exporter sees all that root sees."""

import asyncio
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.agent_process import BIN, free_port
from support.story import until
from tocsin_alerting.local.service_unit import unit_text

NOBODY = "65534"


def as_the_service(*command: str) -> list[str]:
    """The command under the capabilities that the unit gives, as a user who owns nothing."""
    text = unit_text(BIN / "tocsin", "tocsin.yml", (), user=False)
    found = re.search(r"(?m)^AmbientCapabilities=(.*)$", text)
    assert found is not None
    names = [f"+{name.removeprefix('CAP_').lower()}" for name in found[1].split()]
    sets = ",".join(["-all", *names])
    rights = [f"--{kind}={sets}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    user = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs"]
    return ["setpriv", *user, *rights, *command]


@contextmanager
def started(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def rights() -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can take rights away")


def page(port: int) -> set[str]:
    """The series of the metrics page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return set()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


async def test_no_series_is_lost() -> None:
    """What differs in each of three looks is wrong; mounts and processes come and go."""
    ports = free_port(), free_port()
    exporters = [
        [str(BIN / "tocsin"), "exporter", f"--web.listen-address=127.0.0.1:{port}"]
        for port in ports
    ]
    with started(as_the_service(*exporters[0])) as service, started(exporters[1]):
        capable = 'namedprocess_namegroup_open_filedesc{groupname="tocsin"}'
        await until(lambda: all(capable in page(port) for port in ports), within=60)
        assert os.stat(f"/proc/{service.pid}").st_uid == int(NOBODY)
        differ: set[str] = {""}
        for _ in range(3):
            ours, roots = await asyncio.gather(*(asyncio.to_thread(page, p) for p in ports))
            own = {one for one in ours ^ roots if "tocsin_" not in one}
            differ = own if "" in differ else differ & own
            await asyncio.sleep(1)
        assert differ == set()


def test_programs_that_the_agent_starts_have_none_of_it() -> None:
    code = (
        "import subprocess\n"
        "from tocsin_alerting.local.systemd import drop_ambient_capabilities as drop\n"
        "drop()\n"
        "for path in ('/proc/self/status',):\n"
        "    print(open(path).read())\n"
        "print(subprocess.check_output(['cat', '/proc/self/status'], text=True))\n"
    )
    command = as_the_service(str(BIN / "python"), "-c", code)
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    ours, childs = (int(one, 16) for one in re.findall(r"CapEff:\s*(\w+)", said))
    assert ours and not childs
