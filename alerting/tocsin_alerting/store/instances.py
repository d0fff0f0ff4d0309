"""The names that this machine had while the samples in a directory were written.

A renamed machine keeps its history: segments never change, so the names are changed as they are
read. The present name is the last of a JSON list beside the segments.
"""

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from tocsin_alerting.store.shelf import aside_of
from tocsin_exporter.files import file_bytes
from tocsin_exporter.snapshot import MachineName, Renaming

log = logging.getLogger(__name__)

FILE = "instances.json"
_MOST_BYTES = 1 << 20


def renaming(directory: Path, machine: MachineName) -> Renaming:
    """What the samples in `directory` are renamed by; notes the present name.

    A disk that takes no note costs no history: the name is noted at a later start.
    """
    names = _noted(directory / FILE)
    if names is None:
        names = [machine.before]
    names = [*(name for name in names if name != machine.present), machine.present]
    if names != _noted(directory / FILE):
        try:
            _note(directory / FILE, names)
        except OSError as error:
            log.error("%s: %s; noted at the next start", directory / FILE, error.strerror)
    return Renaming(machine.jobs, frozenset(names[:-1]), machine.present)


def _noted(path: Path) -> list[str] | None:
    """None where nothing was noted, or what was cannot be read."""
    try:
        names = json.loads(file_bytes(path, _MOST_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        log.error("%s: %s; former names of this machine are not known", path, error)
        return None
    except (ValueError, RecursionError) as error:
        aside = aside_of(path)
        log.error(
            "%s: %s; former names of this machine are not known, it is set aside as %s",
            path,
            error,
            aside.name,
        )
        with suppress(OSError):
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
