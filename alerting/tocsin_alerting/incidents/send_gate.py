"""When a message may go: what waits for the rules, or for a journal that does not answer."""

from collections.abc import Iterable

from tocsin_alerting.incidents.journal.writer import JournalWriter
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.working_set import WorkingSet

# P2..P4 messages wait this long for a journal that is down; P0 and P1 do not wait.
UNRECORDED_HOLD_MS = 300_000


class SendGate:
    """`unrecorded` are the keys of messages that are not on the disk, and since when.

    An urgent one waits `page_wait_ms` for the disk at most.
    """

    def __init__(self, working: WorkingSet, writer: JournalWriter, page_wait_ms: int) -> None:
        self._working, self._writer, self._page_wait_ms = working, writer, page_wait_ms
        self.unrecorded: dict[str, int] = {}
        self._was_down = False

    def awaits(self, keys: Iterable[str], now_ms: int) -> None:
        for key in keys:
            self.unrecorded.setdefault(key, now_ms)

    def recorded(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.unrecorded.pop(key, None)

    def shift(self, delta_ms: int) -> None:
        """Live by a clock that reads `delta_ms` more."""
        self.unrecorded = {key: at + delta_ms for key, at in self.unrecorded.items()}

    def may_send_at(self, message: OutboxMessage) -> int | None:
        """From when on the message may go; None: not before the outbox is told to look again."""
        if message.is_page and self._working.is_held(message.notification.incident):
            return None
        if self._writer.down:
            return 0 if message.is_urgent else message.notification.at_ms + UNRECORDED_HOLD_MS
        since_ms = self.unrecorded.get(message.key)
        if since_ms is None:
            return 0
        return since_ms + self._page_wait_ms if message.is_urgent else None

    def check_journal(self) -> None:  # with its end or return other messages may go
        if self._was_down != self._writer.down:
            self._was_down = self._writer.down
            self._working.outbox.resume()
