import shutil
from pathlib import Path

import pytest

from support.site import RECORDED
from tocsin_exporter.collectors.process_files import (
    boot_seconds,
    parse_files_limit,
    parse_stat,
    read,
)


def test_a_name_may_hold_blanks_and_parentheses() -> None:
    line = "77 (tricky) name) Z 1 77 77"
    assert parse_stat(line)[0] == "Z"


def test_one_process_in_base_units() -> None:
    process = read(RECORDED / "proc/4242")
    assert (process.pid, process.started_ticks, process.state) == (4242, 5000, "Sleeping")
    assert process.counts["user"] == 10 and process.counts["system"] == 2
    assert process.counts["minor_faults"] == 1200 and process.counts["major_faults"] == 15
    assert process.counts["voluntary"] == 100 and process.counts["read_bytes"] == 4096
    assert process.swapped_bytes == 8192 and process.files_limit == 1024


def test_no_limit_is_infinite_and_an_unreadable_one_unknown() -> None:
    assert parse_files_limit("Max open files            unlimited  unlimited  files") == float(
        "inf"
    )
    assert parse_files_limit("") is None


@pytest.mark.parametrize("odd", ["nan", "inf", "1_0", "٣", "-4", "9" * 25])
def test_a_number_that_is_none_is_an_error(tmp_path: Path, odd: str) -> None:
    with pytest.raises(ValueError):
        parse_files_limit(f"Max open files            {odd}  1024  files")
    shutil.copytree(RECORDED / "proc/4242", tmp_path / "4242")
    stat = tmp_path / "4242/stat"
    stat.write_text(stat.read_text().replace(" 5000 ", f" {odd} "))
    with pytest.raises(ValueError):
        read(tmp_path / "4242")


def test_further_fields_at_the_end_of_every_line_cost_nothing(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "proc/4242", tmp_path / "4242")
    whole = read(tmp_path / "4242")
    for name in ("stat", "status", "limits", "io"):
        path = tmp_path / "4242" / name
        path.write_text("".join(f"{line} new=5\n" for line in path.read_text().splitlines()))
    assert read(tmp_path / "4242").counts == whole.counts
    assert read(tmp_path / "4242").swapped_bytes == whole.swapped_bytes
    assert read(tmp_path / "4242").files_limit == whole.files_limit
    assert boot_seconds("ctxt 5\nbtime 1700000000 new=5\n") == 1_700_000_000
