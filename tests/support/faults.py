"""Another process that is killed, or refused by the disk, at a moment that a test chooses.

Python tells audit hooks of each file that is opened, listed, renamed or removed before it does it.
A hook stays until the process ends, so all of it happens in a child.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable

Refusal = Callable[[str, str], OSError | None]
KILLED = 9
_CHANGES = ("os.rename", "os.remove")
_EVENTS = (*_CHANGES, "open", "os.scandir", "os.listdir")


def _nothing(event: str, path: str) -> OSError | None:
    return None


def in_child(
    work: Callable[[], object], refused: Refusal = _nothing, kill_before: int | None = None
) -> bool:
    """Does `work`; False where it was killed before that change (1, 2, ...) of a name.

    `refused` gives the error of an event (as `_EVENTS`) with a path, if it has one.
    """
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_run, args=(work, refused, kill_before), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode in (0, KILLED), process.exitcode
    return process.exitcode == 0


def _run(work: Callable[[], object], refused: Refusal, kill_before: int | None) -> None:
    changes = 0

    def hook(event: str, details: tuple[object, ...]) -> None:
        nonlocal changes
        if event not in _EVENTS:
            return
        changes += event in _CHANGES
        if event in _CHANGES and changes == kill_before:
            os._exit(KILLED)
        path = details[0]
        error = refused(event, os.fspath(path)) if isinstance(path, str | os.PathLike) else None
        if error is not None:
            raise error

    sys.addaudithook(hook)
    work()
    os._exit(0)  # as a kill: nothing is closed
