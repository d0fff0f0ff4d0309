"""What a process must know again after it was killed, in one small file of JSON: written beside it
and renamed, so that it is whole.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

from tocsin_exporter.files import file_bytes

log = logging.getLogger(__name__)

_VERSION = 1
_MOST_BYTES = 32 << 20


class StateFile:
    """`path` None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = b""
        self.error = ""

    def read(self) -> dict[str, Any]:
        """What was written last, {} for nothing; a file that is none is begun anew."""
        if self._path is None:
            return {}
        try:
            data = json.loads(file_bytes(self._path, _MOST_BYTES))
            if not isinstance(data, dict) or data["version"] != _VERSION:
                raise ValueError("of another version")
            return data
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, RecursionError) as error:
            log.warning("state lost: %s", error, extra={"file": str(self._path)})
            return {}

    def write(self, state: dict[str, Any]) -> bool:
        """Whether it is on the disk as far as this process is concerned: it is not waited for, so
        a crash of the machine may bring an older one back."""
        if self._path is None:
            return False
        data = json.dumps({"version": _VERSION, **state}, separators=(",", ":")).encode()
        if data == self._written:
            return True
        try:
            self._replace(self._path, data)
        except OSError as error:
            self._say(error.strerror or str(error))
            return False
        self._written = data
        self._say("")
        return True

    def _replace(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600),
                  "wb") as file:  # fmt: skip
            file.write(data)
        beside.replace(path)

    def _say(self, error: str) -> None:
        if error and error != self.error:
            log.warning("failed to write state, retrying: %s", error,
                        extra={"file": str(self._path)})  # fmt: skip
        self.error = error
