"""A second reading of docs/incidents.md, to hold the state machine against.

One incident in whole seconds, as plain as can be: what happens changes fields at once, and timers
of one queue are checked when they are due. It shares nothing with the code that it judges.
"""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelFlap:
    """Seconds; what fired again `count` times in `window` must be clear for `hold`, and longer."""

    count: int
    window: int
    hold: int
    multiplier: int
    longest: int


@dataclass(frozen=True)
class ModelPolicy:
    """Seconds; each step has whom it pages and after how long the next one comes."""

    steps: Sequence[tuple[Sequence[str], int | None]]
    repeat: int
    group_wait: int
    ack_timeout: int
    recover: int
    final_every: int | None
    final_for: int
    reopen: int = 30 * 60
    hold: int = 0
    flap: ModelFlap | None = None
    keep_ack: bool = False


class ModelConflict(Exception):
    """The incident is in no state for this."""


class IncidentModel:
    """`pages` are (second, reason, whom). A timer that belongs to an earlier round is void."""

    OPEN = ("TRIGGERED", "ACKED", "SNOOZED")

    def __init__(self, policy: ModelPolicy) -> None:
        self.policy = policy
        self.now = 0
        self.state = "TRIGGERED"
        self.step = -1
        self.pages: list[tuple[int, str, str]] = []
        self._owner: str | None = None
        self._repeats = 0
        self._muted: set[str] = set()
        self._firing = True
        self._exhausted_at = 0
        self._round = 0
        self._acked_at = 0
        self._clear_until: int | None = None  # open, clear, and resolved then
        self._put_off: list[tuple[str, int | None]] = []
        self._fired_again: list[int] = []
        self._in_a_row = 0
        self._flapping = False
        self._calm_at = 0
        self._timers: list[tuple[int, int, str, int | None]] = []
        self._numbers = itertools.count()  # of two at one time, the one set first
        self._set("group wait", policy.group_wait)
        if policy.recover:
            heapq.heappush(self._timers, (policy.recover, next(self._numbers), "recover", None))
        self.advance(0)

    # time

    def advance(self, until: int) -> None:
        while self._timers and self._timers[0][0] <= until:
            self.now, _, kind, round_ = heapq.heappop(self._timers)
            if kind == "calm":
                self._calm()
            elif kind == "hold":
                self._hold_over()
            elif round_ not in (None, self._round):
                continue
            elif self._clear_until is not None:
                self._put_off.append((kind, round_))
            elif round_ is None:
                self._overdue()
            else:
                self._due(kind)
        self.now = until

    def _set(self, kind: str, after: int) -> None:
        timer = (self.now + after, next(self._numbers), kind, self._round)
        heapq.heappush(self._timers, timer)

    def _due(self, kind: str) -> None:
        if kind == "group wait":
            self._run(0, "opened")
        elif kind == "step":
            self._next_step()
        elif kind == "final" and self.now - self._exhausted_at <= self.policy.final_for:
            if not self._muted:
                self._page(["everyone"], "final")
                self._set("final", self.policy.final_every or 0)
        elif kind == "ack timeout":
            self._restart("ack_expired")
        elif kind == "snooze":
            self._restart("snooze_end")
        elif kind == "reopen":
            self.state = "CLOSED"

    def _next_step(self) -> None:
        if self._muted:
            return
        if self.step + 1 < len(self.policy.steps):
            self._run(self.step + 1, "escalated")
        elif self._repeats < self.policy.repeat:
            self._repeats += 1
            self._run(0, "repeat")
        else:
            self._exhaust()

    def _overdue(self) -> None:
        """It has not recovered within the time that the policy gives it."""
        if self._firing:
            self._tell("slo_breach")

    def _tell(self, reason: str) -> None:
        """Those who were told already."""
        if self._muted or self.step < 0:
            return
        if self.state == "TRIGGERED":
            self._page(self.policy.steps[self.step][0], reason)
        elif self.state == "ACKED":
            self._page([self._owner or ""], reason)

    # clear for a while, and again and again

    def _hold(self) -> int:
        flap, own = self.policy.flap, self.policy.hold
        if flap is None or not self._flapping:
            return own
        grown = flap.hold
        for _ in range(self._in_a_row - 1):
            grown *= flap.multiplier
        return max(own, min(grown, flap.longest))

    def _hold_over(self) -> None:
        if self._clear_until == self.now and self.state in self.OPEN:
            self._resolve()

    def _resolve(self) -> None:
        self._clear_until, self._put_off, self._flapping = None, [], False
        self._begin("RESOLVED")
        self._set("reopen", self.policy.reopen)

    def _count(self) -> bool:
        """Whether it flaps from now on, and did not before."""
        flap, before = self.policy.flap, self._flapping
        if flap is None:
            return False
        if not before:
            self._fired_again = [at for at in self._fired_again if self.now - at < flap.window]
        self._fired_again.append(self.now)
        self._flapping = before or len(self._fired_again) >= flap.count
        self._in_a_row = self._in_a_row + 1 if self._flapping else 0
        if self._flapping:
            self._calm_at = self.now + flap.window
            heapq.heappush(self._timers, (self._calm_at, next(self._numbers), "calm", None))
        return self._flapping and not before

    def _calm(self) -> None:
        open_and_firing = self.state in self.OPEN and self._clear_until is None
        if self._flapping and self.now == self._calm_at and open_and_firing:
            self._flapping, self._fired_again, self._in_a_row = False, [], 0
            self._tell("flap_ended")

    def _fires_in_hold(self) -> None:
        began, put_off = self._count(), self._put_off
        self._clear_until, self._put_off = None, []
        if ("unmuted", self._round) in put_off and self.state == "TRIGGERED" and not self._muted:
            self._restart("unmuted", max(self.step, 0), self._repeats)
        elif began:
            self._tell("flapping")
        for kind, round_ in put_off:
            if kind != "unmuted" and round_ in (None, self._round):
                heapq.heappush(self._timers, (self.now, next(self._numbers), kind, round_))

    def _keeps_ack(self) -> bool:
        lasts = self.policy.ack_timeout
        young = not lasts or self.now - self._acked_at < lasts
        return self.policy.keep_ack and self._owner is not None and young

    # steps

    def _page(self, contacts: Sequence[str], reason: str) -> None:
        self.pages += [(self.now, reason, contact) for contact in contacts]

    def _run(self, step: int, reason: str) -> None:
        if self._muted:
            self.step = max(self.step, step)
            return
        self.step = step
        contacts, after = self.policy.steps[step]
        self._page(contacts, reason)
        if after is None:
            self._exhaust()
        else:
            self._set("step", after)

    def _exhaust(self) -> None:
        self._exhausted_at = self.now
        if self.policy.final_every:
            self._set("final", self.policy.final_every)

    def _begin(self, state: str) -> None:
        """A new round: what the last one waited for is void."""
        self._round += 1
        self.state = state

    def _restart(self, reason: str, step: int = 0, repeats: int = 0) -> None:
        self._begin("TRIGGERED")
        self._owner = None
        self._repeats = repeats
        self._run(step, reason)

    # what people and alerts do

    def _allowed(self, *states: str) -> None:
        if self.state not in states:
            raise ModelConflict(self.state)

    def ack(self, owner: str) -> None:
        self._allowed(*self.OPEN)
        if self.state == "ACKED" and self._owner == owner:
            return
        self._begin("ACKED")
        self._owner, self._acked_at = owner, self.now
        if self.policy.ack_timeout:
            self._set("ack timeout", self.policy.ack_timeout)

    def unack(self) -> None:
        self._allowed("ACKED")
        self._restart("unacked")

    def escalate(self, step: int | None = None) -> None:
        self._allowed(*self.OPEN)
        step = self.step + 1 if step is None else step
        if step >= len(self.policy.steps):
            raise ModelConflict(f"no step {step}")
        self._restart("manual", step, self._repeats)

    def snooze(self, seconds: int) -> None:
        self._allowed(*self.OPEN)
        self._begin("SNOOZED")
        self._set("snooze", seconds)

    def mute(self, reason: str) -> None:
        self._muted.add(reason)

    def unmute(self, reason: str) -> None:
        if reason not in self._muted:
            return
        self._muted.remove(reason)
        if self._muted or self.state != "TRIGGERED":
            return
        if self._clear_until is not None:
            if self.step >= 0:
                self._put_off.append(("unmuted", self._round))
            return
        waiting = any(kind == "group wait" and of == self._round for _, _, kind, of in self._timers)
        if not waiting:
            self._restart("unmuted", max(self.step, 0), self._repeats)

    def clear(self) -> None:
        if self.state not in self.OPEN or self._clear_until is not None:
            return
        self._firing = False
        if hold := self._hold():
            self._clear_until = self.now + hold
            heapq.heappush(self._timers, (self._clear_until, next(self._numbers), "hold", None))
        else:
            self._resolve()

    def fire(self) -> None:
        self._firing = True
        if self._clear_until is not None:
            self._fires_in_hold()
        elif self.state == "RESOLVED":
            self.step = -1
            self._count()
            reason = "flapping" if self._flapping else "reopened"
            if not self._keeps_ack():
                self._restart(reason)
                return
            self._begin("ACKED")
            self.step = self._repeats = 0
            self._tell(reason)
            if self.policy.ack_timeout:
                self._set("ack timeout", self._acked_at + self.policy.ack_timeout - self.now)
