"""Two agents on one data directory would undo each other's incidents."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tocsin_alerting.box.directory import InUse, hold, holder

HOLD = """
import sys, time
from pathlib import Path
from tocsin_alerting.box.directory import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_it_is_made_and_held_until_the_process_ends(tmp_path: Path) -> None:
    data = tmp_path / "a" / "data"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(data)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(InUse, match=rf"data is in use by tocsin \(pid {other.pid}\)"):
            hold(data)
        other.kill()
    os.close(hold(data))


def test_a_place_where_nothing_can_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        hold(tmp_path / "file" / "data")


@pytest.mark.parametrize(
    "odd", ["", "FLOCK", "1: FLOCK", "1: FLOCK  ADVISORY  WRITE x 0:1:7 0 EOF", "\u2028"]
)
def test_an_odd_line_of_the_locks_hides_no_other(tmp_path: Path, odd: str) -> None:
    locks = tmp_path / "locks"
    locks.write_text(f"{odd}\n2: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF\n")
    assert holder(1234, locks) == 4711
    assert holder(123, locks) == 0
