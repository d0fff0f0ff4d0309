"""Machines of other makes: what we say of their trees is what node_exporter 1.5.0 says.

The `.prom` beside each tree is node_exporter's own page of it, without what a tree does not have.
`python -m exporter.test_machines` in tests/ writes them anew.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError

import pytest
from prometheus_client import parser as text_parser

from support.machines import MACHINES, NAMES, lay_out, machine
from support.node_exporter import page, running_node_exporter
from tocsin_exporter.collector_settings import ENABLED, CollectorSettings
from tocsin_exporter.collectors import COLLECTORS
from tocsin_exporter.collectors.collector import Unavailable

# What is asked of the machine that the test runs on, or of files that no tree here has.
LIVE = (
    *(
        "cpu",
        "diskstats",
        "filefd",
        "filesystem",
        "loadavg",
        "logind",
        "meminfo",
        "netclass",
        "netdev",
    ),
    *("netstat", "network_route", "pressure", "qdisc", "selinux", "sockstat", "stat"),
    *("systemd", "tcpstat", "textfile", "time", "timex", "uname", "vmstat"),
)
COMPARED = tuple(name for name in ENABLED if name not in LIVE)

Key = tuple[str, tuple[tuple[str, str], ...]]
Said = dict[Key, tuple[float, str, str]]


def theirs(text: str, root: Path) -> Said:
    """Each sample with its value, type and help; the tree's place is /ROOT."""
    found: Said = {}
    for family in text_parser.text_string_to_metric_families(text):
        for sample in family.samples:
            named = {k: v.replace(str(root), "/ROOT") for k, v in sample.labels.items() if v}
            kind = "untyped" if family.type == "unknown" else family.type
            key = sample.name, tuple(sorted(named.items()))
            found[key] = sample.value, kind, family.documentation
    return found


async def ours(root: Path, collectors: Iterable[str]) -> Said:
    host = machine(root, CollectorSettings())
    found: Said = {}
    for name in collectors:
        collector = COLLECTORS[name].make(host)
        try:
            samples = await collector.collect()
        except Unavailable:
            continue
        finally:
            collector.close()
        for sample in samples:
            named = tuple((k, v.replace(str(root), "/ROOT")) for k, v in sample.labels)
            key = sample.family.name + sample.suffix, named
            assert key not in found, f"{key} comes twice"
            found[key] = sample.value, sample.family.type, sample.family.help.strip()
    return found


def recorded(name: str) -> Said:
    return theirs((MACHINES / f"{name}.prom").read_text(), Path("/nowhere"))


@pytest.mark.parametrize("name", NAMES)
async def test_a_tree_reads_as_node_exporter_read_it(name: str, tmp_path: Path) -> None:
    wanted, said = recorded(name), await ours(lay_out(name, tmp_path), COMPARED)
    assert said.keys() == wanted.keys()
    for key, (value, *about) in wanted.items():
        assert math.isclose(said[key][0], value, rel_tol=1e-12, abs_tol=1e-12), key
        assert list(said[key][1:]) == about, key


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_pages_are_node_exporters(name: str, tmp_path: Path) -> None:
    root = lay_out(name, tmp_path)
    try:
        assert theirs(asked(root), root) == recorded(name)
    except HTTPError as error:
        pytest.fail(error.read().decode()[:2000])


@pytest.mark.parametrize("name", NAMES)
async def test_any_file_that_is_gone_costs_what_stands_in_it(name: str, tmp_path: Path) -> None:
    """Nothing appears, and no collector fails as a bug would, whichever file is not there."""
    root = lay_out(name, tmp_path)
    whole = await ours(root, COMPARED)
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
    for path in files[:: max(1, len(files) // 40)]:
        content = path.read_bytes()
        path.unlink()
        assert len(await ours(root, COMPARED)) <= len(whole), path
        path.write_bytes(content)
    assert await ours(root, COMPARED) == whole


def asked(root: Path) -> str:
    """node_exporter's page of a tree, of the collectors that are compared."""
    where = {"procfs": root / "proc", "sysfs": root / "sys", "rootfs": root}
    flags = [f"--path.{name}={path}" for name, path in where.items()]
    with running_node_exporter(COMPARED, *flags) as address:
        lines = page(address).splitlines()
    own = ("node_scrape_", "node_exporter_", "promhttp_")
    wanted = [line for line in lines if not any(name in line for name in own)]
    return "\n".join(wanted) + "\n"


if __name__ == "__main__":
    for each in NAMES:
        with TemporaryDirectory() as directory:
            tree = lay_out(each, Path(directory).resolve())
            text = asked(tree).replace(str(tree), "/ROOT")
            (MACHINES / f"{each}.prom").write_text(text)
