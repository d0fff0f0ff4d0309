"""`/api/v1/receivers`: each receiver, what it is for, and whether its messages arrive."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import eq
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.escalation_policy import Addressee, EscalationPolicy
from tocsin_alerting.incidents.journal.questions import EntryQuery
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.roster import possible_addressees
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.time_format import rfc3339

_LINES = 1000  # of deliveries, the newest ones first, until each receiver's last one is known
_MOST_PAGES = 20
_DELIVERED, _FAILURES = "delivered", ("delivery_failed", "delivery_retry")


@dataclass(slots=True)
class LastDeliveries:
    """The newest line of a delivery, and the newest of one that failed, by addressee."""

    delivered: dict[Addressee, HistoryEntry] = field(default_factory=dict)
    failed: dict[Addressee, HistoryEntry] = field(default_factory=dict)

    def take(self, entry: HistoryEntry) -> None:
        """The newest of each stays, in whatever order they come."""
        receiver, contact = (str(entry.data.get(name, "")) for name in ("receiver", "contact"))
        lines = self.delivered if entry.event == _DELIVERED else self.failed
        known = lines.setdefault(Addressee(receiver, contact), entry)
        if entry.seq > known.seq:
            lines[Addressee(receiver, contact)] = entry

    def has_all(self, receivers: Collection[str], ways: Collection[Addressee]) -> bool:
        """Whether something was delivered by each: what is older changes nothing."""
        used = {to.receiver for to in self.delivered}
        return used.issuperset(receivers) and self.delivered.keys() >= set(ways)


def routes(
    dispatcher: Dispatcher,
    types: Mapping[str, str],
    gone_since: Callable[[str], int | None] = lambda _: None,
) -> list[Route]:
    """`types` are those of the receivers by their names; `gone_since` says when one answered that
    nobody is there."""

    async def receivers(request: Request) -> Response:
        config = dispatcher.working.config
        last = await _last_deliveries(dispatcher, types)
        messages = list(dispatcher.working.outbox.waiting())
        ways = {
            name: dict(contact.ways) for name, contact in sorted(config.roster.contacts.items())
        }
        return success(
            {
                "receivers": [
                    {
                        "name": name,
                        "type": kind,
                        "used_by": _used_by(name, config),
                        "contacts": sorted(
                            contact
                            for contact, own in ways.items()
                            if any(way.receiver == name for way in own.values())
                        ),
                        **_condition(last, messages, partial(_goes_to, name)),
                        **_limits(dispatcher, Addressee(name), messages),
                        "gone_since": _time(gone_since(name)),
                    }
                    for name, kind in sorted(types.items())
                ],
                "contacts": [
                    {
                        "name": name,
                        "ways": [
                            {
                                "way": way,
                                "receiver": to.receiver,
                                **_condition(last, messages, partial(eq, to)),
                                **_limits(dispatcher, to, messages),
                            }
                            for way, to in own.items()
                        ],
                    }
                    for name, own in ways.items()
                ],
            }
        )

    return [get_route("/api/v1/receivers", receivers)]


async def _last_deliveries(dispatcher: Dispatcher, receivers: Collection[str]) -> LastDeliveries:
    """One that is seldom used has its last line far back; the journal is read in parts."""
    contacts, last = dispatcher.working.config.roster.contacts.values(), LastDeliveries()
    ways = {to for contact in contacts for to in contact.ways.values()}
    query: EntryQuery | None = EntryQuery(_LINES, events=(_DELIVERED, *_FAILURES), newest=True)
    for _ in range(_MOST_PAGES):
        if query is None or last.has_all(receivers, ways):
            break
        page = await dispatcher.records.history(query)
        for entry in page.entries:
            last.take(entry)
        query = page.following
    return last


def _goes_to(receiver: str, to: Addressee) -> bool:
    return to.receiver == receiver


def _condition(
    last: LastDeliveries, messages: Sequence[OutboxMessage], is_about: Callable[[Addressee], bool]
) -> dict[str, Any]:
    """`state`: whether the newest attempt arrived, or none was made."""
    delivered = _newest(last.delivered, is_about)
    failed = _newest(last.failed, is_about)
    waits = [
        m for m in messages if is_about(Addressee(m.notification.receiver, m.notification.contact))
    ]
    error = next((m.last_error for m in waits if m.attempts and m.last_error), "")
    if not error and failed and (delivered is None or failed.seq > delivered.seq):
        error = str(failed.data.get("error", ""))
    state = "failing" if error else ("ok" if delivered else "never used")
    return {
        "state": state,
        "waiting": len(waits),
        "error": error,
        "last_delivered": _time(delivered.at_ms if delivered else None),
        "last_failed": _time(failed.at_ms if failed else None),
        "last_error": "" if failed is None else str(failed.data.get("error", "")),
    }


def _limits(
    dispatcher: Dispatcher, to: Addressee, messages: Sequence[OutboxMessage]
) -> dict[str, Any]:
    """How much may go there, until when the first of what is over it waits, and who gets what does
    not arrive."""
    budgets = dispatcher.working.outbox.budgets
    now_free = [
        budgets.delayed[one.key]
        for one in messages
        if one.key in budgets.delayed and to in (one.addressee, Addressee(one.addressee.receiver))
    ]
    until_ms = min(now_free, default=None)
    instead = dispatcher.working.config.fallback_of(to)
    return {
        "rate": [str(rate) for rate in budgets.rates_of(to)],
        "waits_until": _time(until_ms),
        "fallback": "" if instead is None else instead.receiver,
    }


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def _newest(
    lines: Mapping[Addressee, HistoryEntry], is_about: Callable[[Addressee], bool]
) -> HistoryEntry | None:
    own = (entry for to, entry in lines.items() if is_about(to))
    return max(own, key=lambda entry: entry.seq, default=None)


def _used_by(receiver: str, config: IncidentConfig) -> list[str]:
    """The policies and routes by which a message may go there."""
    used = [name for name, policy in config.policies.items() if _reaches(policy, receiver, config)]
    for number, route in enumerate(config.routes, 1):
        added = possible_addressees(route.receivers_add, config.roster)
        if any(to.receiver == receiver for to in added):
            used.append(f"route {number}")
    return used


def _reaches(policy: EscalationPolicy, receiver: str, config: IncidentConfig) -> bool:
    recipients = [recipient for step in policy.steps for recipient in step.notify]
    recipients += policy.final.notify if policy.final else ()
    return any(to.receiver == receiver for to in possible_addressees(recipients, config.roster))
