"""A dispatcher with its sender and its clock: the test moves time, channels answer as told."""

from collections.abc import Callable, Collection
from typing import Any

from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.broken_channels import CHANNEL
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.incident import Incident
from tocsin_alerting.incidents.journal.memory import MemoryJournal
from tocsin_alerting.incidents.journal.protocol import Journal
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered, Delivery, Outcome
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.rules.alert import AlertEvent

Answer = Callable[[Notification], Outcome]
START_MS = 1_767_225_600_000


class Floor:
    """`told` are the (ms since the start, reason, addressee) that arrived; `sent` all attempts."""

    def __init__(
        self, settings: IncidentConfig, journal: Journal | None = None, **options: Any
    ) -> None:
        self.settings = settings
        self.journal: Journal = journal or MemoryJournal()
        self.options = {"patience_s": 60.0, **options}  # no busy machine makes a disk slow
        self.now = START_MS
        self.answers: dict[str, Answer] = {}
        self.sent: list[Notification] = []
        self.arrived: list[tuple[int, Notification]] = []
        self.dispatcher = self._dispatcher()

    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(self.settings, self.journal, lambda: 0.0, **self.options)

    async def open(self) -> "Floor":
        await self.dispatcher.start(self.now)
        return self

    async def restart(self, down_ms: int = 0) -> None:
        """As after `kill -9`: what was in memory is gone."""
        self.now += down_ms
        self.dispatcher = self._dispatcher()
        await self.dispatcher.start(self.now)

    async def hear(self, *events: AlertEvent) -> None:
        await self.dispatcher.handle(events, self.now)
        await self.deliver()

    async def reconcile(self, *standing: AlertEvent, silent: Collection[str] = ()) -> None:
        """All known origins, and the `silent` ones, were asked anew: this is all that they say."""
        own = ("storm", CHANNEL)  # what the dispatcher says itself
        known = {name for name in self.dispatcher.origins if not name.startswith(own)}
        origins = {*known, *silent, *(event.origin for event in standing)}
        await self.dispatcher.reconcile(standing, origins, self.now)

    async def act(self, verb: Verb, number: int = 1, actor: str = "li", **more: Any) -> Incident:
        after = await self.dispatcher.act(Action(verb, number, actor, **more), self.now)
        await self.deliver()
        return after

    async def advance(self, by_ms: int) -> None:
        """Run every due time on the way, in order, as the loops of the agent would."""
        end = self.now + by_ms
        while (at_ms := self._next()) is not None and at_ms <= end:
            self.now = max(self.now, at_ms)
            await self.dispatcher.due(self.now)
            await self.deliver()
        self.now = end

    def _next(self) -> int | None:
        both = (self.dispatcher.next_due_ms(), self.dispatcher.next_claim_ms(self.now))
        return min((at_ms for at_ms in both if at_ms is not None), default=None)

    async def deliver(self) -> None:
        while claimed := await self.dispatcher.claim(self.now):
            for delivery in claimed:
                await self._send(delivery)

    async def _send(self, delivery: Delivery) -> None:
        one = delivery.notification
        self.sent.append(one)
        answer = self.answers.get(one.receiver)
        outcome = answer(one) if answer else Delivered("ref")
        if isinstance(outcome, Delivered):
            items = [item.notification for item in delivery.items] or [one]
            self.arrived += [(self.now - START_MS, item) for item in items]
        await self.dispatcher.delivered(delivery, outcome, self.now)

    @property
    def told(self) -> list[tuple[int, str, str]]:
        return [(at, one.reason.value, one.contact or one.receiver) for at, one in self.arrived]

    def reasons(self, reason: str) -> list[tuple[int, str]]:
        return [(at, who) for at, why, who in self.told if why == reason]
