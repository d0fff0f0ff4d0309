"""Kernel parameters as numbers and as labels, on a written /proc/sys."""

from pathlib import Path

import pytest

from support.site import recorded_site, table
from tocsin_exporter.collector_settings import CollectorSettings
from tocsin_exporter.collectors.collector import CollectorError, Unavailable
from tocsin_exporter.collectors.sysctl import sysctl


async def said(root: Path, **lists: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """By name, and by the labels written in one."""
    for path, content in {"fs/file-nr": "1024\t0\t1631329", "kernel/ostype": "Linux"}.items():
        (root / "proc/sys" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "proc/sys" / path).write_text(f"{content}\n")
    named = {f"sysctl.{name.replace('_', '-')}": given for name, given in lists.items()}
    collector = sysctl(recorded_site(root, settings=CollectorSettings(lists=named)))
    try:
        rows = table(await collector.collect())
    finally:
        collector.close()
    found: dict[str, dict[str, float]] = {}
    for (name, labels), value in rows.items():
        found.setdefault(name, {})[",".join(v for _, v in labels)] = value
    return found


async def test_several_values_have_their_place_or_the_names_given(tmp_path: Path) -> None:
    found = await said(tmp_path, include=("fs.file-nr", "fs.file-nr:total,current,max"))
    assert found == {
        "node_sysctl_fs_file_nr": {"0": 1024, "1": 0, "2": 1631329},
        "node_sysctl_fs_file_nr_total": {"": 1024},
        "node_sysctl_fs_file_nr_current": {"": 0},
        "node_sysctl_fs_file_nr_max": {"": 1631329},
    }


async def test_words_are_labels(tmp_path: Path) -> None:
    found = await said(tmp_path, include_info=("kernel.ostype",))
    assert found == {"node_sysctl_info": {"0,kernel.ostype,Linux": 1}}


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ((), Unavailable),
        (("fs.file-nr:total",), CollectorError),
        (("kernel.ostype",), CollectorError),
        (("vm.none",), Unavailable),
    ],
)
async def test_what_cannot_be_shown_fails(
    tmp_path: Path, named: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await said(tmp_path, include=named)
