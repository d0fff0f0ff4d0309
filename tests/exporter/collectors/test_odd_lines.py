"""One odd line in any kernel file costs itself alone, and is counted."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.site import RECORDED, only, recorded_site, statvfs, table
from tocsin_exporter.clock import Clock
from tocsin_exporter.collectors import COLLECTORS
from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.inline import CountsSkippedLines
from tocsin_exporter.scrape import Scraper, ScrapeTarget
from tocsin_exporter.snapshot import Labels, Sample, Source

# Collector -> the files that it reads line by line.
FILES = {
    "arp": ["net/arp"],
    "conntrack": ["net/stat/nf_conntrack"],
    "cpu": ["stat"],
    "diskstats": ["diskstats"],
    "filefd": ["sys/fs/file-nr"],
    "filesystem": ["1/mountinfo"],
    "loadavg": ["loadavg"],
    "meminfo": ["meminfo"],
    "netdev": ["net/dev"],
    "netstat": ["net/netstat", "net/snmp", "net/snmp6"],
    "pressure": ["pressure/cpu", "pressure/io", "pressure/irq"],
    "schedstat": ["schedstat"],
    "sockstat": ["net/sockstat", "net/sockstat6"],
    "softnet": ["net/softnet_stat"],
    "stat": ["stat"],
    "udp_queues": ["net/udp", "net/udp6"],
    "vmstat": ["vmstat"],
}
MAY_HAVE_NONE = ("arp", "diskstats", "netdev")
BESIDE_OTHERS = ("conntrack", "udp_queues")  # whose other values stay
PAIRS = [(name, file) for name, files in FILES.items() for file in files]
BLANK = [b"", b"   ", b"\t\r"]
# What no file has, what looks like a line of some file, numbers that are none.
MALFORMED = [
    b"cpu7",
    b"cpu1 1 2 x 4 5 6 7 8",
    b"MemAvailable: 99999999999999999999999999999999 kB",
    b"MemAvailable: 1_0 kB",
    b"ctxt nan",
    b"ctxt -4",
    b"intr",
    b"btime 1e400",
    b"\xff\xfe\x00\x01",
    b"pgfault inf",
    b"eth9: 1 2 3",
    b" 8 0 sdz 1 2 \xd9\xa3 4 5 6 7 8 9 10 11",
    b"TCP: inuse",
    b"Tcp: 1 2",
    b"some avg10=0.00 total=x",
    b"27 1 254:0 / /mnt/cut rw,rela",
    b"27 1 254:0 / /mnt/cut rw,relatime - ext4 /dev/v",
    b"x" * 300_000,
]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    shutil.copytree(RECORDED, tmp_path / "m")
    return tmp_path / "m"


async def read(machine: Path, name: str) -> tuple[dict[tuple[str, Labels], float], int, int]:
    """The rows, and how many lines were skipped as blank and as malformed."""
    collector = COLLECTORS[name].make(recorded_site(machine))
    assert isinstance(collector, CountsSkippedLines)
    samples: Sequence[Sample] = await collector.collect()
    collector.close()
    skipped = collector.lines.skipped
    return table(samples), skipped["blank"], skipped["malformed"]


def positions(lines: Sequence[bytes]) -> list[int]:
    return [0, len(lines) // 2, len(lines)]


@pytest.mark.parametrize(("name", "file"), PAIRS)
async def test_a_blank_line_anywhere_costs_nothing_and_is_counted(
    machine: Path, name: str, file: str
) -> None:
    whole = (await read(machine, name))[0]
    path = machine / "proc" / file
    lines = path.read_bytes().split(b"\n")[:-1]
    for odd in BLANK:
        for at in positions(lines):
            path.write_bytes(b"\n".join([*lines[:at], odd, *lines[at:], b""]))
            rows, blank, malformed = await read(machine, name)
            assert (rows, malformed) == (whole, 0)
            assert blank == 1


@pytest.mark.parametrize(("name", "file"), PAIRS)
async def test_a_line_that_is_none_costs_itself_alone(machine: Path, name: str, file: str) -> None:
    whole = (await read(machine, name))[0]
    path = machine / "proc" / file
    lines = path.read_bytes().split(b"\n")[:-1]
    ever = 0
    for odd in MALFORMED:
        for at in positions(lines):
            path.write_bytes(b"\n".join([*lines[:at], odd, *lines[at:], b""]))
            rows, blank, malformed = await read(machine, name)
            # A line that parses by chance (`cpu7` is ignored by meminfo's neighbour) adds no row
            # that was there; between the halves of a pair it costs that pair.
            assert blank == 0
            lost = whole.keys() - rows.keys()
            assert not lost or file in ("net/netstat", "net/snmp"), (odd, at, lost)
            assert {key: rows[key] for key in whole.keys() & rows.keys()} == {
                key: whole[key] for key in whole.keys() & rows.keys()
            }
            ever += malformed
    assert ever, "none of these was counted"


@pytest.mark.parametrize(
    "name", [name for name in FILES if name not in (*MAY_HAVE_NONE, *BESIDE_OTHERS)]
)
async def test_a_file_without_one_line_that_can_be_read_is_no_success(
    machine: Path, name: str
) -> None:
    for said in ("", "\n\n", "no such thing as this\n"):
        for file in FILES[name]:
            (machine / "proc" / file).write_text(said)
        with pytest.raises(CollectorError):
            await read(machine, name)


@pytest.mark.parametrize("name", MAY_HAVE_NONE)
async def test_a_machine_may_have_no_disk_but_a_table_of_junk_is_no_such_machine(
    machine: Path, name: str
) -> None:
    path = machine / "proc" / FILES[name][0]
    path.write_text("")
    assert (await read(machine, name))[0] == {}
    path.write_text("no such thing\n")
    with pytest.raises(CollectorError):
        await read(machine, name)


@pytest.mark.parametrize(
    "odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\r", "\xa0"]
)
async def test_only_a_line_feed_ends_a_line(machine: Path, odd: str) -> None:
    with (machine / "proc/1/mountinfo").open("a", newline="") as table_of_mounts:
        table_of_mounts.write(f"98 27 0:55 / /mnt/a{odd}b rw - ext4 /dev/s{odd}d rw\n")
    rows, blank, malformed = await read(machine, "filesystem")
    wanted = {"mountpoint": f"/mnt/a{odd}b", "device": f"/dev/s{odd}d"}
    assert only(rows, "node_filesystem_size_bytes", **wanted) == 1000 * 4096
    assert only(rows, "node_filesystem_size_bytes", mountpoint="/") == 1000 * 4096
    assert (blank, malformed) == (0, 0)


async def test_a_mount_whose_name_is_not_utf8_is_asked_by_its_own_name(machine: Path) -> None:
    with (machine / "proc/1/mountinfo").open("ab") as mounts:
        mounts.write(b"98 27 0:55 / /mnt/a\xffb rw - ext4 /dev/sdb rw\n")
    asked: list[bytes] = []

    def ask(path: str) -> os.statvfs_result:
        asked.append(os.fsencode(path))
        return statvfs(path)

    collector = COLLECTORS["filesystem"].make(recorded_site(machine, statvfs=ask))
    rows = table(await collector.collect())
    collector.close()
    assert b"/mnt/a\xffb" in asked
    assert only(rows, "node_filesystem_size_bytes", mountpoint="/mnt/a\ufffdb") == 1000 * 4096


async def test_one_property_of_a_network_device_costs_itself_alone(machine: Path) -> None:
    (machine / "sys/class/net/eth0/mtu").write_text("fifteen hundred\n")
    rows, _, malformed = await read(machine, "netclass")
    assert malformed == 1
    assert only(rows, "node_network_flags", device="eth0") == 0x1003
    assert ("node_network_mtu_bytes", (("device", "eth0"),)) not in rows


async def test_what_is_skipped_is_a_metric_of_the_collector(machine: Path) -> None:
    with (machine / "proc/meminfo").open("a") as meminfo:
        meminfo.write("\nMemJunk\n")
    collector = COLLECTORS["meminfo"].make(recorded_site(machine))
    scraper = Scraper(ScrapeTarget("host", Source("node", "h"), (collector,), 5.0, 1.0), Clock())
    await scraper.round(1000)
    rows = table(scraper.health())
    skipped = "tocsin_collector_lines_skipped_total"
    assert only(rows, skipped, collector="meminfo", reason="blank") == 1
    assert only(rows, skipped, collector="meminfo", reason="malformed") == 1
    assert only(rows, "tocsin_collector_success", collector="meminfo") == 1


@pytest.mark.parametrize("name", ["netstat", "sockstat", "vmstat"])
async def test_what_a_kernel_does_not_count_is_not_there(machine: Path, name: str) -> None:
    for file in FILES[name]:
        (machine / "proc" / file).write_text("")
    with pytest.raises(Unavailable):
        await read(machine, name)


@pytest.mark.parametrize("further", [b" new=5", b" 99", b" 99 new=5", b"\r"])
@pytest.mark.parametrize(("name", "file"), PAIRS)
async def test_further_fields_at_the_end_of_every_line_cost_nothing(
    machine: Path, name: str, file: str, further: bytes
) -> None:
    path = machine / "proc" / file
    lines = path.read_bytes().split(b"\n")[:-1]
    if file == "diskstats":  # only a kernel that has all the fields that we know has one more
        lines = [line for line in lines if len(line.split()) >= 20]
    path.write_bytes(b"\n".join([*lines, b""]))
    whole = (await read(machine, name))[0]
    path.write_bytes(b"".join(line + further * (b"|" not in line) + b"\n" for line in lines))
    rows, _, malformed = await read(machine, name)
    assert ({key: rows.get(key) for key in whole}, malformed) == (whole, 0)
    assert whole
