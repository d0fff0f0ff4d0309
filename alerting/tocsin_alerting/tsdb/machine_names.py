"""The names that this machine had while the samples in a directory were written.

A renamed machine keeps its history: blocks never change, so the names are changed as they are
read. The present name is the last of a JSON list beside the blocks.
"""

import json
import logging
import os
from pathlib import Path

from tocsin_alerting.tsdb.files import aside_path
from tocsin_exporter.files import file_bytes
from tocsin_exporter.snapshot import MachineName, Renaming

log = logging.getLogger(__name__)

FILE = "instances.json"
_MOST_BYTES = 1 << 20


def renaming(directory: Path, machine: MachineName) -> Renaming:
    """What the samples in `directory` are renamed by; notes the present name.

    A disk that takes no note costs no history: the name is noted at a later start. Nor does one
    that does not give the note: what it says is left as it is.
    """
    path = directory / FILE
    try:
        noted = _noted(path)
    except OSError as error:
        log.error("failed to read former machine names: %s: %s", path, error)
        return _renaming([machine.before], machine)
    names = [name for name in noted or [machine.before] if name != machine.present]
    if [*names, machine.present] != noted:
        try:
            _note(path, [*names, machine.present])
        except OSError as error:
            log.error(
                "failed to write machine names, retrying at the next start: %s: %s",
                path,
                error.strerror,
            )
    return _renaming(names, machine)


def _renaming(names: list[str], machine: MachineName) -> Renaming:
    former = frozenset(name for name in names if name != machine.present)
    return Renaming(machine.jobs, former, machine.present)


def _noted(path: Path) -> list[str] | None:
    """None where nothing was noted, or it was damaged and is set aside. Raises OSError."""
    try:
        names = json.loads(file_bytes(path, _MOST_BYTES))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        aside = aside_path(path)
        log.error(
            "former machine names damaged: %s: %s; set aside as %s",
            path,
            error,
            aside.name,
        )
        path.rename(aside)
        return None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else None


def _note(path: Path, names: list[str]) -> None:
    unfinished = path.with_suffix(".tmp-names")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(names, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
