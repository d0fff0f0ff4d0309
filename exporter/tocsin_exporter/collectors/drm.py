"""AMD GPUs as their kernel driver tells of them, under node_exporter's names; /sys/class/drm.

`gpu_amd.py` knows more of them, where ROCm's library is installed.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tocsin_exporter.catalogue import HARDWARE
from tocsin_exporter.collectors.attributes import AttributeCollector, entries, sampled, word
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser
from tocsin_exporter.snapshot import Sample, labels

_CARD = HARDWARE["node_drm_card_info"]
_WORDS = {
    "memory_vendor": "mem_info_vram_vendor",
    "power_performance_level": "power_dpm_force_performance_level",
    "unique_id": "unique_id",
}
_NUMBERS = {
    "gpu_busy_percent": (HARDWARE["node_drm_gpu_busy_percent"], 1.0),
    **{
        f"mem_info_{block}_{file}": (HARDWARE[f"node_drm_memory_{block}_{name}_bytes"], 1.0)
        for block in ("gtt", "vis_vram", "vram")
        for file, name in (("total", "size"), ("used", "used"))
    },
}


def drm(host: Host) -> AttributeCollector:
    root = host.sys / "class/drm"
    return AttributeCollector("drm", root, partial(_cards, root))


def _cards(root: Path, lines: LineParser) -> Iterator[Sample]:
    for card in entries(root, "card[0-9]"):
        device = card / "device"
        if "DRIVER=amdgpu" in (word(device / "uevent") or ""):
            said = {name: word(device / file) or "" for name, file in _WORDS.items()}
            yield Sample(_CARD, 1, labels(card=card.name, vendor="amd", **said))
            yield from sampled(device, _NUMBERS, labels(card=card.name), lines)
