"""What a channel is: what it is built from, what it does, and a message to try it with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from tocsin_alerting.incidents.actions import Action
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent, RetryAt
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.own_address import OwnAddresses
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.signed_links import SignedLinks


@dataclass(frozen=True, slots=True)
class ChannelDeps:
    """What a channel is built from besides its own section of the configuration.

    `addresses`: the e-mail address of each contact, by its name, `phones` the telephone numbers;
    `hostname`: this machine's; `links`: where the addressee of a message answers it;
    `own`: where the agent itself is.
    """

    vault: Vault
    templates: MessageTemplates = field(default_factory=MessageTemplates)
    addresses: Mapping[str, str] = field(default_factory=dict)
    phones: Mapping[str, str] = field(default_factory=dict)
    hostname: str = "localhost"
    links: SignedLinks = field(default_factory=SignedLinks)
    own: OwnAddresses = field(default_factory=OwnAddresses)

    def own_address(self, contact: str, key: str) -> str:
        """Of a contact, by the key of `contact_ways.CONTACT_WAYS`; "" without one."""
        return {"email": self.addresses, "phone": self.phones}[key].get(contact, "")


class Channel(Protocol):
    """One receiver of the configuration.

    `send` never raises for what the other side does: it says so in the outcome, without a secret.
    `at_once` messages are sent side by side, twice as many with those of P0 and P1.
    `transcript`, when given, is filled with the lines of the conversation, secrets masked.
    """

    name: str
    send_resolved: bool
    at_once: int

    async def send(
        self, notification: Notification, now_ms: int, transcript: list[str] | None = None
    ) -> Outcome: ...

    def begin(self) -> None:
        """Take the threads that sending needs: later there may be none. Raises RuntimeError."""

    async def close(self) -> None: ...


AnswerIncident = Callable[[Action], Awaitable[str]]
"""Does what somebody answered, and gives the sentence to tell him. Never raises. `actor` is who he
is, `via` by which receiver, `request_id` the same each time the other side repeats it."""


@runtime_checkable
class Listening(Protocol):
    """A channel in which people answer as well: a button, a reply, a key of the phone."""

    name: str

    async def listen(self, answer: AnswerIncident) -> None:
        """Until it is cancelled; it is called again when it ends or raises."""


@runtime_checkable
class Refreshing(Protocol):
    """A channel whose other side forgets what it is not told again, each `refresh_ms`."""

    name: str
    refresh_ms: int

    async def refresh(
        self, standing: Callable[[], Sequence[Notification]], now_ms: Callable[[], int]
    ) -> None:
        """Once. `standing` gives what is open and was sent here, as it stands at that moment."""


@runtime_checkable
class Retiring(Protocol):
    """A channel whose other side may say for good that nobody is there: it is not asked again."""

    def address_mark(self) -> str:
        """What tells where it sends apart from elsewhere, and tells it to nobody."""
        ...


def describe_outcome(outcome: Outcome) -> str:
    """The last line of a transcript: how it ended, in words."""
    match outcome:
        case Delivered(detail=detail):
            return f"= delivered: {detail}"
        case RetryAt(error=error):
            return f"= delivery failed, would retry: {error}"
        case Permanent(error=error, final=final):
            return f"= delivery failed{' permanently' if final else ', refused'}: {error}"


def nobody(notification: Notification, address: str) -> Permanent:
    """What comes of a message to somebody without an `address`: "e-mail address"."""
    if notification.contact:
        who, what = f"contact {notification.contact}", "add one"
    else:
        who, what = "the receiver", "add one to its keys, or a contact to the message (--contact)"
    return Permanent(f"{who} has no {address} in the configuration; {what}")


def channel_test_notification(
    receiver: str, contact: str, now_ms: int, external_url: str = ""
) -> Notification:
    """A test notification to `receiver`, or to `contact` through it; its incident is number 0."""
    labels = {"alertname": "TocsinChannelTest", "severity": "P4"}
    alert = NotifiedAlert(
        status="firing",
        labels=labels,
        annotations={"summary": "This is a test of the channel; nothing is wrong."},
        starts_at_ms=now_ms,
        ends_at_ms=None,
        value=1.0,
        fingerprint="0" * 16,
    )
    return Notification(
        key=f"test/{receiver}/{contact}/{now_ms}",
        incident=0,
        receiver=receiver,
        contact=contact,
        reason=Reason.TEST,
        severity="P4",
        status="firing",
        state="TRIGGERED",
        step=0,
        loop=0,
        title=f"TocsinChannelTest {receiver}",
        group_key='{}:{alertname="TocsinChannelTest"}',
        group_labels={"alertname": "TocsinChannelTest"},
        alerts=(alert,),
        opened_at_ms=now_ms,
        at_ms=now_ms,
        external_url=external_url,
    )
