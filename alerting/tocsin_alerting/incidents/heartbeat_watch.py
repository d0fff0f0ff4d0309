"""What happens with expected heartbeats: they come, stay away, are added and forgotten."""

from collections.abc import Awaitable, Callable, Mapping

from tocsin_alerting.incidents.errors import HeartbeatConflict, NoSuchHeartbeat
from tocsin_alerting.incidents.heartbeats import (
    HEARTBEAT,
    MOST_HEARTBEATS,
    ExpectedHeartbeat,
    tokens_of,
)
from tocsin_alerting.incidents.incident import Member
from tocsin_alerting.incidents.working_set import WorkingSet
from tocsin_alerting.rules.alert import AlertEvent, EventKind

RETURNED = "it came again"
FORGOTTEN_WHY = "the heartbeat is no longer expected"


class HeartbeatWatch:
    """`handle` takes what there is to say of them, `save` writes what changed and returns when it
    is on the disk or does not answer. `configured_tokens` are names by the SHA-256 of tokens."""

    def __init__(
        self,
        working: WorkingSet,
        handle: Callable[[list[AlertEvent], int], Awaitable[None]],
        save: Callable[[int], Awaitable[None]],
    ) -> None:
        self.configured_tokens: Mapping[str, str] = {}
        self._working, self._handle, self._save = working, handle, save

    def name_of(self, sha256: str) -> str | None:
        """The heartbeat whose token has this hash."""
        known = self._working.heartbeats
        return self.configured_tokens.get(sha256) or tokens_of(
            one for one in known if not known.is_configured(one.name)
        ).get(sha256)

    async def beat(self, name: str, now_ms: int) -> ExpectedHeartbeat:
        """It is there. Raises NoSuchHeartbeat."""
        known = self._working.heartbeats
        one = self._known(name)
        is_first = known.seen_ms(name) is None
        was_missing = known.beat(name, now_ms)
        standing = self._members(one.origin)
        if was_missing or standing:
            events = [_end(member, one.origin, EventKind.CLEAR, now_ms) for member in standing]
            await self._handle(events, now_ms)
        if is_first or was_missing:
            await self._save(now_ms)
        return one

    def missing(self, now_ms: int) -> list[AlertEvent]:
        """What there is to say of those that are missing from now on."""
        return [self._fires(one, now_ms) for one in self._working.heartbeats.newly_missing(now_ms)]

    async def settle(self, now_ms: int) -> None:
        """Make open incidents agree with the heartbeats that are known now: what was
        missing is missing still, until it comes; what nobody expects any more is not watched."""
        known, events = self._working.heartbeats, list[AlertEvent]()
        for origin in [name for name in self._working.index.origins if name.startswith(HEARTBEAT)]:
            one = known.get(origin.removeprefix(HEARTBEAT))
            for member in self._members(origin):
                if one is None:
                    events.append(_end(member, origin, EventKind.REMOVED, now_ms))
                elif known.was_heard(one.name) and not known.is_missing(one.name):
                    events.append(_end(member, origin, EventKind.CLEAR, now_ms))
                else:
                    known.mark_missing(one.name)
                    fires = self._fires(one, now_ms)
                    if fires.alert.fingerprint != member.alert.fingerprint:
                        events += [fires, _end(member, origin, EventKind.REMOVED, now_ms)]
        await self._handle(events, now_ms)

    async def add(self, one: ExpectedHeartbeat, now_ms: int) -> None:
        """Expect it from now on. Raises HeartbeatConflict."""
        known = self._working.heartbeats
        if known.get(one.name) is not None:
            where = "in the configuration" if known.is_configured(one.name) else "already"
            raise HeartbeatConflict(f'a heartbeat is called "{one.name}" {where}; forget it first')
        if sum(1 for _ in known) >= MOST_HEARTBEATS:
            raise HeartbeatConflict(f"there are {MOST_HEARTBEATS} heartbeats already; forget some")
        known.add(one)
        data = {"name": one.name, "every_ms": one.every_ms, "grace_ms": one.grace_ms}
        self._working.note(0, "heartbeat_added", now_ms, one.created_by, data)
        await self._save(now_ms)

    async def forget(self, name: str, actor: str, now_ms: int) -> None:
        """Expect it no more; an incident of it is no longer watched. Raises NoSuchHeartbeat, and
        HeartbeatConflict for one of the configuration."""
        one = self._known(name)
        if self._working.heartbeats.is_configured(name):
            raise HeartbeatConflict(f'heartbeat "{name}" is in the configuration; remove it there')
        self._working.heartbeats.forget(name)
        self._working.note(0, "heartbeat_forgotten", now_ms, actor, {"name": name})
        standing = self._members(one.origin)
        await self._handle(
            [_end(m, one.origin, EventKind.REMOVED, now_ms) for m in standing], now_ms
        )
        await self._save(now_ms)

    def incident_of(self, one: ExpectedHeartbeat) -> int | None:
        """The number of the incident in which it is missing."""
        for member in self._members(one.origin):
            holder = self._working.incident_of(member.alert.fingerprint)
            return None if holder is None else holder.number
        return None

    def _known(self, name: str) -> ExpectedHeartbeat:
        one = self._working.heartbeats.get(name)
        if one is None:
            raise NoSuchHeartbeat(name)
        return one

    def _members(self, origin: str) -> list[Member]:
        return self._working.members_of_origin(origin)

    def _fires(self, one: ExpectedHeartbeat, now_ms: int) -> AlertEvent:
        known = self._working.heartbeats
        alert = one.alert(known.seen_ms(one.name), known.missed_since_ms(one, now_ms))
        return AlertEvent(EventKind.FIRING, alert, now_ms, origin=one.origin)


def _end(member: Member, origin: str, kind: EventKind, now_ms: int) -> AlertEvent:
    why = RETURNED if kind is EventKind.CLEAR else FORGOTTEN_WHY
    return AlertEvent(kind, member.alert, now_ms, why, origin)
