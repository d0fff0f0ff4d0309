"""How many messages may go to a receiver, and to a contact by one way, in a time.

A budget delays and never drops: what is over it waits until the first of those sent has left the
window. A part of each is kept for pages of P0 and P1.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tocsin_alerting.incidents.escalation_policy import Addressee
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.rates import Rates


@dataclass(frozen=True, slots=True)
class SentBefore:
    """An attempt of which the history tells; `in_digest`: perhaps one of several in one message."""

    at_ms: int
    to: Addressee
    in_digest: bool = False


class RateBudgets:
    """`of_contacts` are those of a contact by a way. Times are kept in order, for as long as the
    longest window. `delayed`: until when a message waits for its budget, by its key."""

    def __init__(
        self, of_receivers: Mapping[str, Rates], of_contacts: Mapping[Addressee, Rates]
    ) -> None:
        self._times: dict[Addressee, list[tuple[int, str]]] = {}
        self.set_rates(of_receivers, of_contacts)
        self.delayed: dict[str, int] = {}
        self._first_ms: int | None = None  # of this run
        self._news: list[tuple[OutboxMessage, int]] = []

    def set_rates(
        self, of_receivers: Mapping[str, Rates], of_contacts: Mapping[Addressee, Rates]
    ) -> None:
        """Others hold from now on; what went out before counts."""
        every = {Addressee(name): rates for name, rates in of_receivers.items() if rates}
        self._rates = every | {to: rates for to, rates in of_contacts.items() if rates}
        self._times = {to: self._times.get(to, []) for to in self._rates}

    @property
    def longest_ms(self) -> int:
        """How far back sent messages count; 0 without a budget."""
        return max((r.window_ms for rates in self._rates.values() for r in rates), default=0)

    def rates_of(self, to: Addressee) -> Rates:
        return self._rates.get(to, ())

    def free_at_ms(self, message: OutboxMessage) -> int:
        """From when on the message may go; 0: it never had to wait."""
        free_ms, severity = 0, message.notification.severity if message.is_page else ""
        for scope in _scopes(message.addressee):
            times = self._times.get(scope, ())
            for rate in self._rates.get(scope, ()):
                share = rate.share(severity)
                if len(times) >= share:
                    free_ms = max(free_ms, times[len(times) - share][0] + rate.window_ms)
        return free_ms

    def waits(self, message: OutboxMessage, now_ms: int) -> int | None:
        """Until when it has to wait, and remember that; None: it may go."""
        free_ms = self.free_at_ms(message) if self._rates else 0
        if free_ms <= now_ms:
            return None
        if message.key not in self.delayed:
            self._news.append((message, free_ms))
        self.delayed[message.key] = free_ms
        return free_ms

    def take(self, message: OutboxMessage, now_ms: int) -> None:
        """It goes out."""
        self._first_ms = now_ms if self._first_ms is None else self._first_ms
        for scope in _scopes(message.addressee):
            if scope in self._times:
                self._note(scope, now_ms, message.key)

    def give_back(self, message: OutboxMessage) -> bool:
        """It turned out that there was nothing to send; whether that makes room."""
        found = False
        for scope in _scopes(message.addressee):
            times = self._times.get(scope, [])
            last = next((n for n in reversed(range(len(times))) if times[n][1] == message.key), -1)
            if last >= 0:
                del times[last]
                found = True
        return found

    def load(self, sent: Iterable[SentBefore]) -> None:
        """What the history tells of the run before; the items of a digest went as one message."""
        first_ms = self._first_ms
        earlier = [one for one in sent if first_ms is None or one.at_ms < first_ms]
        for one in [one for one in earlier if not one.in_digest] + [
            *{one for one in earlier if one.in_digest}
        ]:
            for scope in _scopes(one.to):
                if scope in self._times:
                    self._note(scope, one.at_ms, "")

    def forget(self, key: str) -> None:
        """The message has an end."""
        self.delayed.pop(key, None)

    def drain_news(self) -> list[tuple[OutboxMessage, int]]:
        """The messages that wait for their budget since the last call, and until when."""
        taken, self._news = self._news, []
        return taken

    def shift(self, delta_ms: int) -> None:
        if self._first_ms is not None:
            self._first_ms += delta_ms
        for times in self._times.values():
            times[:] = [(at_ms + delta_ms, key) for at_ms, key in times]
        self.delayed = {key: at_ms + delta_ms for key, at_ms in self.delayed.items()}

    def _note(self, scope: Addressee, at_ms: int, key: str) -> None:
        times = self._times[scope]
        insort(times, (at_ms, key))
        longest_ms = max(rate.window_ms for rate in self._rates[scope])
        del times[: bisect_left(times, (times[-1][0] - longest_ms, ""))]


def _scopes(to: Addressee) -> tuple[Addressee, ...]:
    """The receiver, and the contact by it."""
    return (Addressee(to.receiver), to) if to.contact else (to,)
