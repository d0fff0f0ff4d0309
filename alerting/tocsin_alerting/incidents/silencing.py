"""What people do with silences and ad hoc windows: set, expire, extend and preview them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from tocsin_alerting.incidents.errors import JournalError, NoSuchSilence
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.journal.writer import TIMEOUT_S, JournalWriter
from tocsin_alerting.incidents.silence_end import note_of, put_silence
from tocsin_alerting.incidents.silences import (
    InvalidSilence,
    Silence,
    SilenceState,
    can_update,
    check_silence,
    expired,
    matches_everything,
)
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.severity import Severity

RECENT_MS = 7 * 86_400_000
_PAGE = 200  # incidents read at once, or looked at before the loop may do something else


@dataclass(frozen=True, slots=True)
class Preview:
    """What a silence would mute: the incidents that fire, the worst first, with how many alerts;
    how many incidents there were in the last 7 days and how many of them P0 (None: the journal
    does not say)."""

    firing: tuple[Incident, ...]
    alerts: int
    recent: int | None
    recent_p0: int | None
    everything: bool


class Silencing:
    """`save` writes what changed, and returns when it is on the disk or does not answer."""

    def __init__(
        self,
        working: WorkingSet,
        writer: JournalWriter,
        save: Callable[[int], Awaitable[None]],
    ) -> None:
        self._working, self._writer, self._save = working, writer, save

    @property
    def all(self) -> Mapping[str, Silence]:
        """Silences and ad hoc windows by their id, also those that ended in the last 5 days."""
        return self._working.mute_rules.silences

    def get(self, name: str) -> Silence:
        """Raises NoSuchSilence."""
        silence = self.all.get(name)
        if silence is None:
            raise NoSuchSilence(name)
        return silence

    def recorded(self, silence: Silence) -> bool:
        """Whether it is known to be on the disk as it stands."""
        return not self._writer.silence_waits(silence.id)

    async def put(
        self, wanted: Silence, new_id: str, now_ms: int, *, everything: bool = False
    ) -> Silence:
        """A new silence, which gets `new_id`, or another state of the one whose id it has.

        As in Alertmanager: where that one cannot become what is wanted, it expires, and a new one
        begins. Raises NoSuchSilence and InvalidSilence.
        """
        before = self.get(wanted.id) if wanted.id else self.all.get(new_id)
        if before is not None and not wanted.id:
            return before  # the same request once more
        check_silence(wanted, now_ms, everything=everything)
        if before is None and wanted.window:
            self._check_window(wanted.window, now_ms)
        if before is not None and can_update(before, wanted, now_ms):
            after = replace(wanted, has_matched=before.has_matched, updated_at_ms=now_ms)
        else:
            if before is not None and before.state(now_ms) is not SilenceState.EXPIRED:
                self._end(before, before.created_by, "replaced", now_ms)
            starts_at_ms = max(wanted.starts_at_ms, now_ms)
            after = replace(wanted, id=new_id, starts_at_ms=starts_at_ms, updated_at_ms=now_ms)
        put_silence(self._working, after)
        self._working.note(0, "silence_set", now_ms, after.created_by, note_of(after))
        await self._save(now_ms)
        return after

    async def expire(self, name: str, actor: str, now_ms: int) -> Silence:
        """End it now; one that has ended stays as it is. Raises NoSuchSilence."""
        silence = self.get(name)
        if silence.state(now_ms) is not SilenceState.EXPIRED:
            self._end(silence, actor, "expired", now_ms)
            await self._save(now_ms)
        return self.get(name)

    async def extend(self, name: str, ends_at_ms: int, actor: str, now_ms: int) -> Silence:
        """Let it end then, earlier or later. Raises NoSuchSilence, and InvalidSilence for one that
        has ended."""
        silence = self.get(name)
        if silence.state(now_ms) is SilenceState.EXPIRED:
            raise InvalidSilence("it has expired; add a new one")
        extended = replace(silence, ends_at_ms=ends_at_ms, updated_at_ms=now_ms)
        check_silence(extended, now_ms, everything=True)
        put_silence(self._working, extended)
        self._working.note(0, "silence_extended", now_ms, actor, note_of(extended))
        await self._save(now_ms)
        return extended

    async def preview(self, wanted: Silence, now_ms: int) -> Preview:
        """What it would mute now, and how often that fired in the last 7 days."""
        muted: list[Incident] = []
        alerts = 0
        for count, incident in enumerate(list(self._working.incidents.values())):
            matching = _matching_alerts(wanted, incident)
            if matching and incident.counts_as_firing:
                muted.append(incident)
                alerts += matching
            if count % _PAGE == _PAGE - 1:
                await asyncio.sleep(0)
        muted.sort(key=lambda incident: (incident.severity, incident.number))
        recent = await self._recent(wanted, now_ms)
        counts: tuple[int | None, int | None] = (None, None)
        if recent is not None:
            recent |= {incident.number: incident.severity.value for incident in muted}
            worst = sum(severity == Severity.P0 for severity in recent.values())
            counts = len(recent), worst
        return Preview(tuple(muted), alerts, *counts, matches_everything(wanted.matchers))

    async def _recent(self, wanted: Silence, now_ms: int) -> dict[int, str] | None:
        """The severities of the matching incidents of the last 7 days, by number."""
        found: dict[int, str] = {}
        above = 0
        try:
            while True:
                async with asyncio.timeout(TIMEOUT_S):
                    since_ms = now_ms - RECENT_MS
                    page = await self._writer.journal.labels_since(since_ms, above, _PAGE)
                for one in page:
                    if any(map(wanted.matches, one.labels)):
                        found[one.number] = one.severity
                if len(page) < _PAGE:
                    return found
                above = page[-1].number
        except (JournalError, TimeoutError):
            return None

    def _check_window(self, name: str, now_ms: int) -> None:
        """Of two windows of one name nobody could tell which one mutes."""
        planned = any(window.name == name for window in self._working.config.maintenance)
        held = any(
            silence.window == name and silence.state(now_ms) is not SilenceState.EXPIRED
            for silence in self.all.values()
        )
        if planned or held:
            where = "in the configuration" if planned else "already"
            raise InvalidSilence(
                f'a maintenance window "{name}" exists {where}; choose another name'
            )

    def _end(self, silence: Silence, actor: str, why: str, now_ms: int) -> None:
        put_silence(self._working, expired(silence, now_ms))
        self._working.note(0, "silence_ended", now_ms, actor, note_of(silence) | {"why": why})


def _matching_alerts(wanted: Silence, incident: Incident) -> int:
    return sum(wanted.matches(dict(member.alert.labels)) for member in incident.active)
