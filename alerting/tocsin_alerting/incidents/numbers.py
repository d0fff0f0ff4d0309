"""The numbers of incidents: one that anybody was told never stands for another incident.

Numbers are given when the journal holds that they may be. What it holds is a block ahead, so that
they go on in order while it cannot be written; after a crash, what is left of the block is skipped.
Where there is no such number, the time makes one, as two runs do not share it. Those above a
journal that was lost are of the time as well: the next one may be lost too, and what it told is
known by nothing but the clock. So none runs ahead of it.
"""

from collections.abc import Mapping

from tocsin_alerting.incidents.changeset import RESERVED_NUMBER
from tocsin_alerting.incidents.journal.protocol import FIRST_OF_TIME, JournalState

BLIND_NUMBERS = 1_000_000
LAST_NUMBER = "last_number"
BLOCK = 5_000
BLOCK_APART = 100  # what a kill skips is given when the clock has passed it
STEP_APART_MS = 100
BEHIND = 5  # how many a run has at once: no other one began, and told them, in half a second
MADE_EACH_MS = 10  # more than are opened in the time that a restart takes
EPOCH_MS = 1_735_689_600_000  # 2025: fewer digits to type


class IncidentNumbers:
    def __init__(self) -> None:
        self._last = 0
        self._reserved = 0  # in the journal
        self._of_time = 0
        self._wanted = 0
        self._noted: dict[str, str] = {}
        self._known = self._ended = False

    def give(self, now_ms: int) -> int:
        following = self._last + 1
        if following <= self._reserved and (not self._apart or following <= _apart(now_ms)):
            return following
        made = FIRST_OF_TIME + max(0, now_ms - EPOCH_MS) * MADE_EACH_MS
        self._of_time = max(self._of_time + 1, made)
        return self._of_time

    @property
    def few(self) -> bool:
        """Whether it is worth a moment to have more of them in the journal."""
        return self._reserved - self._last < self._block // 2

    @property
    def _apart(self) -> bool:
        return self._last >= BLIND_NUMBERS

    @property
    def _block(self) -> int:
        return BLOCK_APART if self._apart else BLOCK

    def taken(self, number: int) -> None:
        """An incident has it."""
        if number < FIRST_OF_TIME:
            self._last = max(self._last, number)
        else:
            self._of_time = max(self._of_time, number)

    def begin(self) -> None:
        """There is a journal, or may be one, that holds no others."""
        self._known = True

    def begin_apart(self, now_ms: int) -> None:
        """Go on above the numbers of a journal that was lost."""
        self._last, self._known = max(self._last, _apart(now_ms) - BEHIND), True

    def load(self, saved: JournalState) -> None:
        """Those of the last run may all have been told, up to what it reserved. An older version
        goes on after those that were made of the time."""
        given = (saved.meta.get(name, "") for name in (LAST_NUMBER, RESERVED_NUMBER))
        for number in (saved.last_number, *(int(text) for text in given if text.isdecimal())):
            self.taken(number)
        self._wanted, self._known = 0, True
        for incident in saved.incidents:
            self.taken(incident.number)

    def end(self) -> None:
        """No number is given any more: the next run goes on after the last one."""
        self._ended = True

    def changes(self) -> Mapping[str, str]:
        """What the journal is to hold, where that is news. Of one that may yet be read nothing is
        known: what it holds stays."""
        if not self._known:
            return {}
        block = self._block
        if self._last + block // 2 >= self._wanted:
            self._wanted = (self._last + block // 2) // block * block + block
        reserved = self._last if self._ended else self._wanted
        noted = {LAST_NUMBER: str(self._last), RESERVED_NUMBER: str(reserved)}
        if noted == self._noted:
            return {}
        self._noted = noted
        return noted

    def recorded(self, meta: Mapping[str, str]) -> None:
        """This is in the journal now."""
        self._reserved = max(self._reserved, int(meta.get(RESERVED_NUMBER, 0)))


def _apart(now_ms: int) -> int:
    """The last number that a run above a lost journal may have given by now."""
    return BLIND_NUMBERS + BEHIND + max(0, now_ms - EPOCH_MS) // STEP_APART_MS
