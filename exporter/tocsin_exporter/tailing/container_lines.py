"""What container runtimes write around each line: Docker's json-file, and the format of the CRI."""

import fnmatch
import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence

from tocsin_exporter.files import file_bytes
from tocsin_exporter.tailing.settings import Containers
from tocsin_exporter.tailing.tailed_file import LONGEST_LINE

_CRI = re.compile(rb"\d{4}-\d\d-\d\dT[^ ]{1,30} (stdout|stderr) ([FP])[^ ]* ?(.*)", re.DOTALL)
_MOST_CONFIG_BYTES = 1 << 20


class ContainerLines:
    """Of one file: takes the wrapping off, and joins what a runtime has cut into parts."""

    def __init__(self) -> None:
        self._begun: dict[bytes, bytes] = {}  # by stream

    def unwrap(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        return [line for wrapped in lines for line in self._unwrap(wrapped)]

    def _unwrap(self, wrapped: bytes) -> Iterator[bytes]:
        """A line in no known format is taken as it is."""
        if match := _CRI.fullmatch(wrapped):
            yield from self._part(match[1], match[3], match[2] == b"F")
        elif wrapped.startswith(b"{") and (said := _docker(wrapped)) is not None:
            stream, text = said
            yield from self._part(stream, text.removesuffix(b"\n"), text.endswith(b"\n"))
        else:
            yield wrapped

    def _part(self, stream: bytes, text: bytes, last: bool) -> Iterator[bytes]:
        whole = (self._begun.pop(stream, b"") + text)[:LONGEST_LINE]
        if last:
            yield whole.removesuffix(b"\r")
        else:
            self._begun[stream] = whole


def _docker(wrapped: bytes) -> tuple[bytes, bytes] | None:
    try:
        data = json.loads(wrapped)
        return str(data["stream"]).encode(), str(data["log"]).encode("utf-8", "replace")
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


class ContainerFiles:
    """Which files are those of the wanted containers. A container's name is read once."""

    def __init__(self, wanted: Containers) -> None:
        self._docker_logs = wanted.docker_logs
        self._pod_logs = wanted.pod_logs
        self._is_wanted = _matcher(wanted.names)
        self._is_wanted_pod = _matcher(wanted.pods)
        self._names: dict[str, str] = {}

    def __call__(self) -> list[str]:
        docker = [
            path for path in glob.glob(self._docker_logs) if self._is_wanted(self._name(path))
        ]
        self._names = {path: name for path, name in self._names.items() if path in docker}
        pods = (path for path in glob.glob(self._pod_logs) if self._is_wanted_pod(pod_name(path)))
        return [*docker, *pods]

    def _name(self, path: str) -> str:
        """Docker's name of a container, else its id."""
        if path not in self._names:
            directory = os.path.dirname(path)
            try:
                about = json.loads(
                    file_bytes(os.path.join(directory, "config.v2.json"), _MOST_CONFIG_BYTES)
                )
                self._names[path] = str(about["Name"]).lstrip("/")
            except (OSError, ValueError, LookupError, TypeError, RecursionError):
                return os.path.basename(directory)
        return self._names[path]


def pod_name(path: str) -> str:
    """`NAMESPACE/POD/CONTAINER` of .../NAMESPACE_POD_UID/CONTAINER/0.log, "" for another path."""
    directory, container = os.path.split(os.path.dirname(path))
    parts = os.path.basename(directory).split("_")
    return f"{parts[0]}/{parts[1]}/{container}" if len(parts) == 3 else ""


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    return lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
