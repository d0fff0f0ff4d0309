"""Plays one story again and again, killed with SIGKILL at each point in turn. Run as a script.

    killed_dispatcher.py FOLDER

Leaves FOLDER/POINT-HIT/{incidents.db, arrived, clock} for each death, POINT-HIT meaning the HIT-th
time that the process came by POINT. `arrived` holds a line for each message as a receiver got it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from support.alert_events import alert, clears, fires
from support.dispatcher_setup import START_MS
from support.policies import MINUTE, config
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered

DOWN = alert("EngineDown", "P0", target="a")
POINTS = ("begin", "before commit", "after commit", "after claim", "after send")
ESCALATES_AT_MS = START_MS + 15 * MINUTE
CLEARS_AT_MS = START_MS + 20 * MINUTE


def doom(point: str, hit: int) -> Callable[[str], None]:
    left = hit

    def at(passed: str) -> None:
        nonlocal left
        left -= passed == point
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


async def story(folder: Path, at: Callable[[str], None]) -> None:
    journal = SqliteJournal(folder / "incidents.db", at=at)
    # Patience is by the real clock, and the machine may be busy; slow disks have other tests.
    dispatcher = Dispatcher(config(), journal, lambda: 0.0, patience_s=60, start_patience_s=60)
    (folder / "clock").write_text(str(START_MS))
    await dispatcher.start(START_MS)
    await dispatcher.handle([fires(DOWN)], START_MS)
    await send(dispatcher, folder, START_MS, at)
    (folder / "clock").write_text(str(ESCALATES_AT_MS))
    await dispatcher.due(ESCALATES_AT_MS)
    await send(dispatcher, folder, ESCALATES_AT_MS, at)
    (folder / "clock").write_text(str(CLEARS_AT_MS))
    await dispatcher.handle([clears(DOWN)], CLEARS_AT_MS)
    await send(dispatcher, folder, CLEARS_AT_MS, at)


async def send(
    dispatcher: Dispatcher, folder: Path, now_ms: int, at: Callable[[str], None]
) -> None:
    while claimed := await dispatcher.claim(now_ms):
        at("after claim")
        for delivery in claimed:
            arrive(folder, delivery.notification)
            at("after send")
            await dispatcher.delivered(delivery, Delivered(), now_ms)


def arrive(folder: Path, one: Notification) -> None:
    with (folder / "arrived").open("a") as file:
        file.write(f"{one.key}\t{one.reason.value}\t{one.contact or one.receiver}\n")


def child(folder: Path, point: str, hit: int) -> None:
    asyncio.run(story(folder, doom(point, hit)))
    os._exit(0)


def main(root: Path) -> None:
    for point in POINTS:
        for hit in range(1, 100):
            folder = root / f"{point}-{hit}"
            folder.mkdir(parents=True)
            pid = os.fork()
            if pid == 0:
                child(folder, point, hit)
            _, status = os.waitpid(pid, 0)
            if os.WIFEXITED(status):
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
