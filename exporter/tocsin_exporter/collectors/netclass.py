"""Properties of network devices: /sys/class/net.

Reading them may wait for a driver (the speed of a flapping link), so they are read on a HangGuard.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tocsin_exporter.catalogue import NETWORK
from tocsin_exporter.catalogue.network import COUNTER_FILES, GAUGE_FILES
from tocsin_exporter.collectors.collector import Unavailable
from tocsin_exporter.collectors.hang_guard import HangGuard
from tocsin_exporter.collectors.host import Host
from tocsin_exporter.collectors.inline import LineParser, text
from tocsin_exporter.snapshot import Sample, labels

_NO_HANDLER = "statistics/rx_nohandler"
_NUMBERS = {
    **{file: NETWORK[f"node_network_{name}"] for name, file in GAUGE_FILES.items()},
    **{file: NETWORK[f"node_network_{name}"] for name, file in COUNTER_FILES.items()},
    _NO_HANDLER: NETWORK["node_network_receive_nohandler_total"],
}
_TEXTS = ("address", "broadcast", "duplex", "operstate", "ifalias")
_SPEED = NETWORK["node_network_speed_bytes"]
_UP = NETWORK["node_network_up"]
_INFO = NETWORK["node_network_info"]
_BYTES_PER_MEGABIT = 125_000
_INTEGER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|-?(0|[1-9][0-9]{0,19})")


class Netclass:
    name = "netclass"

    def __init__(self, host: Host) -> None:
        self.lines = LineParser(self.name)
        self._root = host.sys / "class/net"
        self._ignored = host.settings.pattern("netclass.ignored-devices").search
        self._no_speed = "netclass.ignore-invalid-speed" in host.settings.switches
        self._guard = HangGuard("netclass")

    async def collect(self) -> Sequence[Sample]:
        """Raises Unavailable when sysfs has no network devices."""
        return await self._guard.run(self._read)

    def close(self) -> None:
        self._guard.close()

    def _read(self) -> list[Sample]:
        if not self._root.is_dir():
            raise Unavailable(f"{self._root} does not exist on this machine")
        samples: list[Sample] = []
        for directory in sorted(self._root.iterdir()):
            name = _text(directory.name)
            if directory.is_dir() and not self._ignored(name):  # bonding_masters is a file
                samples += parse(name, _files(directory), self.lines)
        if self._no_speed:
            return [s for s in samples if s.family is not _SPEED or s.value >= 0]
        return samples


def _files(directory: Path) -> dict[str, str]:
    """What the files say; one that the driver does not answer for (a link that is down) is out."""
    contents = {}
    for name in (*_NUMBERS, *_TEXTS):
        try:
            contents[name] = text(directory / name).strip()
        except OSError:
            continue
    return contents


def parse(device: str, files: Mapping[str, str], lines: LineParser) -> Iterator[Sample]:
    """The properties of one device from the texts of its files, by their names."""
    of_device = (("device", device),)
    state = files.get("operstate", "")
    yield Sample(_UP, float(state == "up"), of_device)
    yield Sample(_INFO, 1, labels(device=device, **{k: files.get(k, "") for k in _TEXTS}))
    for file, family in _NUMBERS.items():
        if file in files:
            value = lines.take(files[file], lambda content: [_integer(content)])
            yield from (Sample(family, _in_unit(file, number), of_device) for number in value)


def _integer(content: str) -> int:
    """Raises ValueError for what is no integer; flags and dev_id are hexadecimal."""
    if not _INTEGER.fullmatch(content):
        raise ValueError(f"{content!r} is no integer of 64 bits")
    return int(content, 0)


def _text(name: str) -> str:
    """A file's name whose bytes need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _in_unit(file: str, number: int) -> float:
    # An unknown speed is -1 Mbit/s and comes out as -125000, as node_exporter has it.
    return float(number * _BYTES_PER_MEGABIT if file == "speed" else number)
