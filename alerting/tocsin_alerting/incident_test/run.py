"""Plays an incident test: a clock that jumps to whatever is next, and the agent's own stages."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from tocsin_alerting.incident_test.act import ActFailed, carry_out
from tocsin_alerting.incident_test.agent import AgentInputs, AgentUnderTest
from tocsin_alerting.incident_test.script import (
    Answer,
    ChannelTrouble,
    ClockStep,
    IncidentExpected,
    IncidentTest,
    Restart,
    TimedAct,
)
from tocsin_alerting.incident_test.virtual_time import VirtualTime
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import Journal
from tocsin_alerting.incidents.journal.sqlite import SqliteJournal
from tocsin_alerting.incidents.notification import Notification, title
from tocsin_alerting.incidents.outbox_message import Delivered, Delivery, Outcome
from tocsin_alerting.rules.rule import FilePosition
from tocsin_alerting.rules.rule_test import input_columns

_QUIET_TURNS = 3  # of the loop, after which nobody has anything to do
DOWN = "the agent is down then"


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of what was done or got. `notification` is a message that arrived."""

    at_ms: int
    words: str
    notification: Notification | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class ActTrouble:
    """Something of `actions` that could not be done, or a rule that failed."""

    at_ms: int
    place: FilePosition
    why: str


@dataclass(slots=True)
class Recording:
    """All that came of a test. `incidents` are as they stood at the times that were asked for."""

    happenings: list[Happening] = field(default_factory=list)
    incidents: dict[int, tuple[Incident, ...]] = field(default_factory=dict)
    troubles: list[ActTrouble] = field(default_factory=list)


class IncidentTestRun:
    """`folder` is for the journal of a test with a restart."""

    def __init__(
        self, script: IncidentTest, bed: AgentInputs, time: VirtualTime, folder: Path
    ) -> None:
        self.recording = Recording()
        self._script, self._bed, self._time, self._folder = script, bed, time, folder
        self._acts = list(script.acts)
        self._looks = sorted(
            {e.wanted.at_ms for e in script.expectations if isinstance(e.wanted, IncidentExpected)}
        )
        start_ms = bed.test.start_ms
        self._input = [(at_ms - start_ms, samples) for at_ms, samples in input_columns(bed.test)]
        self._read_ms: int | None = None  # when the newest input was read
        self._memory = MemoryJournal()
        self._keeps = any(isinstance(timed.act, Restart) for timed in script.acts)
        self._agent: AgentUnderTest | None = None
        self._up_ms = 0  # when the agent starts (again)
        self._slot_ms = 0
        self._last: dict[int, Incident] = {}  # as they stood when they were looked at last

    async def play(self) -> Recording:
        end_ms = self._script.end_ms
        while (at_ms := self._next_ms()) <= end_ms:
            self._time.move_to(at_ms)
            await self._moment(at_ms)
        if self._agent is not None:
            await self._agent.kill()
        return self.recording

    def _next_ms(self) -> int:
        times = [self._slot_ms, self._time.next_wake_ms()]
        times += [timed.at_ms for timed in self._acts[:1]]
        times += self._looks[:1]
        now_ms = self._time.elapsed_ms
        if self._agent is None:
            times.append(self._up_ms)
        elif (due_ms := self._agent.next_due_ms()) is not None:
            times.append(max(now_ms + due_ms - self._agent.clock.now_ms(), now_ms + 1))
        return min(times)

    async def _moment(self, at_ms: int) -> None:
        """Channels, clocks and restarts first, then the rules and what is due, then answers."""
        if self._agent is None and at_ms >= self._up_ms:
            await self._start()
        self._time.wake()
        due = self._due_acts(at_ms)
        for timed in due:
            if not isinstance(timed.act, Answer):
                await self._do(timed)
        if at_ms >= self._slot_ms:
            await self._evaluate(at_ms)
        await self._turn()
        for timed in due:
            if isinstance(timed.act, Answer):
                await self._do(timed)
        await self._turn()
        while self._looks and self._looks[0] <= at_ms:
            self.recording.incidents[self._looks.pop(0)] = tuple(self._last.values())

    def _due_acts(self, at_ms: int) -> list[TimedAct]:
        due = [timed for timed in self._acts if timed.at_ms <= at_ms]
        self._acts = self._acts[len(due) :]
        return due

    async def _start(self) -> None:
        journal: Journal = self._memory
        if self._keeps:
            journal = SqliteJournal(self._folder / "incidents.db")
        self._agent = AgentUnderTest(self._bed, self._time.clock(), journal, self._reported)
        now_ms, read_ms = self._agent.clock.now_ms(), self._read_ms
        newest_ms = None if read_ms is None else now_ms - (self._time.elapsed_ms - read_ms)
        await self._agent.start(newest_ms)
        if self._time.elapsed_ms:
            self._note("the agent starts")

    async def _evaluate(self, at_ms: int) -> None:
        """Read the input until now, if there is an agent, and run the rules on it."""
        self._slot_ms += self._bed.interval_ms
        while self._input and self._input[0][0] <= at_ms:
            read_ms, samples = self._input.pop(0)
            if self._agent is not None and read_ms >= self._up_ms:
                wall_ms = self._agent.clock.now_ms() - (at_ms - read_ms)
                self._bed.bench.append(wall_ms, samples)
                self._read_ms = read_ms
        if self._agent is not None and (broken := await self._agent.evaluate()):
            self._trouble(self._script.place, f"rule {broken}")

    async def _turn(self) -> None:
        """Timers and messages, until nothing more is due now."""
        if self._agent is None:
            return
        while True:
            await self._agent.dispatcher.due(self._agent.clock.now_ms())
            await self._compare(self._agent)
            sent = await self._agent.delivery_loop.collect()
            await self._settle(self._agent)
            if not sent:
                break
        await self._compare(self._agent)

    async def _settle(self, agent: AgentUnderTest) -> None:
        """Until every attempt that does not hang is recorded."""
        quiet = 0
        while quiet < _QUIET_TURNS:
            await asyncio.sleep(0.0005 if agent.queue.busy else 0)
            quiet = 0 if agent.queue.busy else quiet + 1

    async def _do(self, timed: TimedAct) -> None:
        self.recording.happenings.append(Happening(timed.at_ms, timed.words, done=True))
        try:
            match timed.act:
                case ChannelTrouble() as trouble:
                    self._bed.channels[trouble.receiver].suffer(trouble)
                case ClockStep(delta_ms):
                    self._time.step(delta_ms)
                    if self._agent is not None:
                        self._agent.clock.check()
                case Restart(down_ms):
                    await self._kill(down_ms)
                case act:
                    if self._agent is None:
                        raise ActFailed(DOWN)
                    now_ms = self._agent.clock.now_ms()
                    offset_ms = now_ms - self._time.elapsed_ms
                    await carry_out(act, self._agent.dispatcher, now_ms, offset_ms)
        except ActFailed as error:
            self._trouble(timed.place, f"{timed.words}: {error}")

    async def _kill(self, down_ms: int) -> None:
        if self._agent is None:
            raise ActFailed(DOWN)
        await self._agent.kill()
        self._agent, self._up_ms = None, self._time.elapsed_ms + down_ms
        if down_ms == 0:
            await self._start()

    def _reported(self, delivery: Delivery, outcome: Outcome) -> None:
        sent = delivery.notification
        if isinstance(outcome, Delivered):
            if not outcome.unsent:
                self._note(f"{message_words(sent)} to {whom(sent)}", notification=sent)
        else:
            failed = f"not delivered to {whom(sent)}: {outcome.error}"
            self._note(f"{message_words(sent)} {failed}")

    async def _compare(self, agent: AgentUnderTest) -> None:
        """Note how incidents have changed."""
        standing = agent.dispatcher.working.incidents
        for number in [n for n, one in self._last.items() if n not in standing]:
            if self._last[number].state is not IncidentState.CLOSED:
                closed = await agent.dispatcher.incident(number)
                self._take(closed)
        for incident in standing.values():
            self._take(incident)

    def _take(self, incident: Incident) -> None:
        before = self._last.get(incident.number)
        if before is incident:
            return
        self._last[incident.number] = incident
        if before is None or _standing(before) != _standing(incident):
            self._note(_standing(incident))

    def _note(self, words: str, notification: Notification | None = None) -> None:
        happening = Happening(self._time.elapsed_ms, words, notification)
        self.recording.happenings.append(happening)

    def _trouble(self, place: FilePosition, why: str) -> None:
        trouble = ActTrouble(self._time.elapsed_ms, place, why)
        if all(known.why != why for known in self.recording.troubles):
            self.recording.troubles.append(trouble)


def message_words(sent: Notification) -> str:
    """`#1 P0 opened (step 0)`."""
    number = f"#{sent.incident} " if sent.incident else ""
    return f"{number}{sent.severity} {sent.reason} (step {sent.step})"


def whom(sent: Notification) -> str:
    """`li by mail`, or the receiver alone."""
    return f"{sent.contact} by {sent.receiver}" if sent.contact else sent.receiver


def _standing(incident: Incident) -> str:
    """`#1 P0 EngineDown target=a is ACKED by li, muted`."""
    owner = f" by {incident.owner}" if incident.owner else ""
    muted = f", muted by {', '.join(sorted(incident.muted_by))}" if incident.muted_by else ""
    unknown = "" if incident.source == "firing" or not incident.is_open else f", {incident.source}"
    name = f"#{incident.number} {incident.severity} {title(incident)}"
    return f"{name} is {incident.state}{owner}{muted}{unknown}"
