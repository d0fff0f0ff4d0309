"""Starts amid trouble: killed again and again, with a clock from 1970 to 2262, damaged samples, bad
files and a directory that others may look into. A fault pages afterwards."""

import os
import random
import stat
import subprocess
import time
from pathlib import Path

import pytest

from support.agent_process import BIN, alertctl
from support.faked_clock import FakedClock
from support.neighbourhood import Neighbourhood

KILLS = 8
CHECK_SECONDS = 20.0
CLOCKS = {"1970": 86400 * 2, "2038": 2**31 + 60, "2262": 9_223_372_000}
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(20)
)
FILES = {
    "a bomb of aliases": BOMB,
    "a number of 5,000 digits": "evaluation_interval: " + "9" * 5000,
    "100,000 unknown keys": "".join(f"key{n}: 1\n" for n in range(100_000)),
    "rules that nest": "groups: " + "[" * 50_000,
    "a file of zeros": "\0" * 2_000_000,
}


@pytest.mark.long
def test_killed_at_any_moment_of_the_start(tmp_path: Path) -> None:
    place, dice = Neighbourhood(tmp_path), random.Random(8)
    flags = ["--config.file=tocsin.yml", "--storage.path=data", "--no-worker"]
    listen = f"--web.listen-address=127.0.0.1:{place.agent.port}"
    for _ in range(KILLS):
        command = [str(BIN / "tocsin"), "up", *flags, listen]
        with (tmp_path / "killed.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(dice.uniform(0.2, 2.0))
        process.kill()
        process.wait()
    with place:
        place.page_seconds()


@pytest.mark.parametrize(
    "year", ["1970", *(pytest.param(one, marks=pytest.mark.long) for one in ("2038", "2262"))]
)
def test_a_clock_of_another_age(year: str, tmp_path: Path) -> None:
    clock = FakedClock(tmp_path / "clock")
    place = Neighbourhood(tmp_path)
    place.agent.environment |= clock.environment
    clock.set(round(CLOCKS[year] - time.time()))
    with place:
        shown = float(place.data("/api/v1/query?query=time()")["result"][0])
        assert abs(shown - CLOCKS[year]) < 120
        place.page_seconds(at_ms=round(shown * 1000))
    assert "Traceback" not in place.agent.said()


def test_damaged_samples_and_a_page_after_them(tmp_path: Path) -> None:
    """Every file of the store is cut off or has other bytes in its middle."""
    place, dice = Neighbourhood(tmp_path), random.Random(9)
    with place:
        place.page_seconds()
        place.agent.kill()
        files = [path for path in (tmp_path / "data" / "samples").rglob("*") if path.is_file()]
        assert files
        for path in files:
            content = bytearray(path.read_bytes())
            middle = len(content) // 2
            content[middle : middle + 16] = dice.randbytes(16)
            path.write_bytes(content[: dice.choice([len(content), middle + 8])])
        place.agent.start()
        place.page_seconds()
    assert "Traceback" not in place.agent.said()


def test_nobody_else_may_look_into_the_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        with Neighbourhood(tmp_path) as place:
            place.page_seconds()
            paths = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
    finally:
        os.umask(before)
    assert modes.pop("agent.sock") & 0o007 == 0
    assert not [name for name, mode in modes.items() if mode & 0o077], modes


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_a_trap_is_refused_in_words(what: str, tmp_path: Path) -> None:
    (tmp_path / "tocsin.yml").write_text(FILES[what])
    began = time.monotonic()
    done = alertctl("check", "tocsin.yml", cwd=tmp_path)
    assert time.monotonic() - began < CHECK_SECONDS
    assert done.returncode not in (0, -9) and "tocsin.yml" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stdout + done.stderr) < 100_000
