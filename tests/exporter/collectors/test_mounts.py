from pathlib import Path

from support.site import recorded_site
from tocsin_exporter.collectors.inline import LineParser
from tocsin_exporter.collectors.mounts import Mount, parse, watched


def test_excluded_mounts_and_repeated_ones_are_left_out_and_blanks_unescaped() -> None:
    assert watched(recorded_site(), LineParser("filesystem")) == [
        Mount("/dev/vda", "/", "ext4", read_only=False),
        Mount("filer:/export", "/mnt/nfs share", "nfs4", read_only=True),
    ]


def test_a_superblock_that_went_read_only_counts() -> None:
    (mount,) = parse("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,emergency_ro")
    assert mount.read_only


def test_under_a_mounted_root_the_hosts_paths_are_shown() -> None:
    table = (
        "1 0 8:1 / /host rw - ext4 /dev/sda1 rw",
        "2 1 8:2 / /host/data rw master:1 - xfs /dev/sda2 rw",
        "3 0 8:3 / /hostile rw - xfs /dev/sda3 rw",
    )
    points = [mount.point for line in table for mount in parse(line, "/host")]
    assert points == ["/", "/data", "/hostile"]


def test_our_own_table_does_where_process_1_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("27 1 254:0 / / rw - ext4 /dev/vda rw\n")
    assert [
        mount.device for mount in watched(recorded_site(tmp_path), LineParser("filesystem"))
    ] == ["/dev/vda"]
