"""node_exporter's own fixture tree, read by our collectors, against the page that it records of it.

    python scripts/fixture_trees.py CHECKOUT [--verbose]

CHECKOUT is a checkout of github.com/prometheus/node_exporter, best at v1.5.0, whose page the
names are of. Its tree and flags are those of end-to-end-test.sh. Exits with 1 where something
differs that REASONS has no word for.
"""

import argparse
import asyncio
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import NamedTuple

from prometheus_client import parser as text_parser

from tocsin_exporter.collector_settings import ENABLED, CollectorSettings, HostView
from tocsin_exporter.collectors import COLLECTORS
from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.host import host_of
from tocsin_exporter.snapshot import Sample

# What end-to-end-test.sh switches off, and what it compares with the machine that it runs on.
# Links, routes, queues and the states of TCP are asked of the kernel, whatever the tree is.
NOT_COMPARED = {
    *("filesystem", "netdev", "network_route", "qdisc", "selinux", "tcpstat", "time", "timex"),
    *("logind", "systemd", "uname"),
}
IGNORED = re.compile(
    r"go_|process_|promhttp_|node_exporter_build_info|node_scrape_collector_|node_time_"
    r"|node_textfile_mtime_seconds|node_network_(receive|transmit)_(bytes|packets)_total"
    r"|node_selinux_|node_network_(receive|transmit)_"
)
FLAGS = CollectorSettings(
    patterns={
        "arp.device-exclude": "nope",
        "netclass.ignored-devices": "(dmz|int)",
        "cpu.info.flags-include": "^(aes|avx.?|constant_tsc)$",
        "cpu.info.bugs-include": "^(cpu_meltdown|spectre_.*|mds)$",
    },
    switches=frozenset(
        {"cpu.info", "stat.softirq", "bcache.priorityStats", "netclass.ignore-invalid-speed"}
    ),
    lists={
        "sysctl.include": ("kernel.threads-max", "fs.file-nr", "fs.file-nr:total,current,max"),
        "sysctl.include-info": ("kernel.seccomp.actions_avail",),
    },
    collectors=dict.fromkeys(ENABLED, True),
)
PLACE = re.compile(r"(/\S*/|\bcollector/)fixtures/")
# Of a series' name: why ours is another, or none.
REASONS = {
    "node_qdisc_.+": "asked of the kernel: theirs is a recorded answer of their library",
    "node_wifi_.+": "not provided: asked of the kernel, and no GPU server has it",
}

Key = tuple[str, tuple[tuple[str, str], ...]]


class Said(NamedTuple):
    value: float
    type: str
    help: str


def unpack(archive: Path, into: Path) -> None:
    """A ttar archive: `Path:`, `Lines:` or `SymlinkTo:`, and a line of dashes between the parts."""
    lines = iter(archive.read_text(encoding="latin-1").split("\n"))
    path, link = into, ""
    for line in lines:
        name, _, value = line.partition(": ")
        if line.startswith("Directory: "):
            (into / value).mkdir(parents=True, exist_ok=True)
        elif name == "Path":
            path, link = into / value, ""
            path.parent.mkdir(parents=True, exist_ok=True)
        elif name == "SymlinkTo":
            link = value
            path.symlink_to(link)
        elif name == "Lines":
            path.write_bytes(content(lines, int(value)))


def content(lines: Iterator[str], count: int) -> bytes:
    """EOF stands for a file that ends without a line feed, NULLBYTE for what it says."""
    text = "".join(f"{next(lines)}\n" for _ in range(count))
    text = re.sub(r"(?<!\\)NULLBYTE", "\0", re.sub(r"(?<!\\)EOF\n", "", text))
    return re.sub(r"\\(NULLBYTE|EOF)", r"\1", text).encode("latin-1")


def lay_out(checkout: Path, root: Path) -> Path:
    fixtures = root / "fixtures"
    copytree(checkout / "collector/fixtures", fixtures, symlinks=True)
    for archive in ("sys.ttar", "udev.ttar"):
        unpack(fixtures / archive, fixtures)
    return fixtures


def theirs(page: str) -> dict[Key, Said]:
    found: dict[Key, Said] = {}
    for family in text_parser.text_string_to_metric_families(page):
        for sample in family.samples:
            if not IGNORED.match(sample.name):
                labels = {k: v for k, v in sample.labels.items() if v}
                kind = "untyped" if family.type == "unknown" else family.type
                found[key(sample.name, labels)] = Said(
                    sample.value, kind, PLACE.sub("", family.documentation)
                )
    return found


def key(name: str, labels: dict[str, str]) -> Key:
    """Paths as they are seen from the directory of the fixtures."""
    return name, tuple(sorted((k, PLACE.sub("", v)) for k, v in labels.items()))


async def ours(fixtures: Path) -> tuple[dict[Key, Said], dict[str, str]]:
    """What our collectors say, and which of them failed, with the reason."""
    settings = replace(FLAGS, textfile_directory=str(fixtures / "textfile/two_metric_files"))
    view = HostView(settings, fixtures / "proc", fixtures / "sys", fixtures, fixtures / "udev/data")
    host = host_of(view, lambda: 0.0)
    found: dict[Key, Said] = {}
    failed: dict[str, str] = {}
    for name, entry in COLLECTORS.items():
        if entry.area == "host" and name not in NOT_COMPARED:
            collector = entry.make(host)
            try:
                samples = await collector.collect()
            except Unavailable:
                continue
            except CollectorError as error:
                failed[name], samples = str(error), error.samples
            finally:
                collector.close()
            found |= {said_of(sample): about(sample) for sample in samples}
    return {k: v for k, v in found.items() if not IGNORED.match(k[0])}, failed


def said_of(sample: Sample) -> Key:
    return key(sample.family.name + sample.suffix, {k: v for k, v in sample.labels if v})


def about(sample: Sample) -> Said:
    return Said(sample.value, sample.family.type, PLACE.sub("", sample.family.help.strip()))


def differences(ours: dict[Key, Said], theirs: dict[Key, Said]) -> Iterator[tuple[str, str]]:
    """The name of each series that is not alike, with what is wrong."""
    for each in sorted(theirs.keys() - ours.keys()):
        yield each[0], f"missing: {dict(each[1])} {theirs[each].value}"
    for each in sorted(ours.keys() - theirs.keys()):
        yield each[0], f"only ours: {dict(each[1])} {ours[each].value}"
    for each in sorted(theirs.keys() & ours.keys()):
        mine, other = ours[each], theirs[each]
        if not math.isclose(mine.value, other.value, rel_tol=1e-12, abs_tol=1e-12):
            yield each[0], f"value: {dict(each[1])} {mine.value}, theirs {other.value}"
        elif mine[1:] != other[1:]:
            yield each[0], f"about: {mine[1:]}, theirs {other[1:]}"


def report(fixtures: Path, verbose: bool) -> int:
    wanted = theirs((fixtures / "e2e-output.txt").read_text(encoding="utf-8"))
    said, failed = asyncio.run(ours(fixtures))
    wrong = list(differences(said, wanted))
    explained = {name for name, _ in wrong if reason(name)}
    for name, what in wrong:
        if verbose or name not in explained:
            print(f"{name} {what}" + (f" ({why})" if (why := reason(name)) else ""))
    for name, why in failed.items():
        print(f"collector {name} failed: {why}")
    families = {name for name, _ in wanted}
    alike = families - {name for name, _ in wrong}
    print(f"{len(alike)} of {len(families)} families alike, {len(wanted)} series; explained:")
    for name in sorted(explained):
        print(f"  {name}: {reason(name)}")
    return int(bool({name for name, _ in wrong} - explained))


def reason(name: str) -> str:
    return next((why for pattern, why in REASONS.items() if re.fullmatch(pattern, name)), "")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("checkout", type=Path)
    options.add_argument("--verbose", action="store_true")
    given = options.parse_args()
    with TemporaryDirectory() as directory:
        sys.exit(report(lay_out(given.checkout, Path(directory).resolve()), given.verbose))
