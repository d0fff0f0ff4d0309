"""The buttons below a message, and what a press of one says.

What a button carries comes back from the client of whoever presses it, who may send something else
(https://core.telegram.org/method/messages.getBotCallbackAnswer: the client sends `data`). So it is
signed: it stands for one incident, one receiver and one verb, of this agent, even where another one
has the same bot. A new token of the bot ends the buttons that there are. It carries the incident's
generation in its message: a button of a former time must not take what has opened again since.
"""

import base64
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.notify.signed_links import SignedLinks

MOST_DATA = 64  # bytes of callback_data
SNOOZE_MS = 30 * 60_000
_MAC_BYTES = 15
_VERBS = {"a": Verb.ACK, "s": Verb.SNOOZE, "r": Verb.RESOLVE}
_LETTERS = {verb: letter for letter, verb in _VERBS.items()}
_DATA = re.compile(r"t2([asr])([0-9]{1,18})\.([0-9]{1,10})\.([A-Za-z0-9_-]{20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ButtonPress:
    verb: Verb
    incident: int
    generation: int


class ButtonSigner:
    def __init__(self, token: str, receiver: str, links: SignedLinks) -> None:
        self._key = hmac.digest(token.encode(), b"tocsin buttons\0" + receiver.encode(), "sha256")
        self._links = links

    def __repr__(self) -> str:
        return "ButtonSigner()"

    def data(self, press: ButtonPress) -> str:
        """At most 64 bytes."""
        plain = f"t2{_LETTERS[press.verb]}{press.incident}.{press.generation}"
        return f"{plain}.{self._mac(plain)}"

    def press(self, data: str) -> ButtonPress | None:
        """What it stands for; None for what this receiver did not sign."""
        match = _DATA.fullmatch(data)
        if match is None:
            return None
        if not hmac.compare_digest(match[4], self._mac(data.rpartition(".")[0])):
            return None
        return ButtonPress(_VERBS[match[1]], int(match[2]), int(match[3]))

    def _mac(self, plain: str) -> str:
        sealed = self._links.seal("button", plain.encode())
        mac = hmac.digest(self._key, sealed + plain.encode(), "sha256")[:_MAC_BYTES]
        return base64.urlsafe_b64encode(mac).decode()

    def keyboard(
        self, incident: int, generation: int, verbs: Sequence[Verb], labels: Mapping[str, str]
    ) -> dict[str, Any]:
        """An inline keyboard: what is pressed most alone in the first row. Without verbs it is
        empty, which takes the buttons away from a message that had some."""
        presses = [ButtonPress(verb, incident, generation) for verb in verbs]
        buttons = [
            {"text": labels[press.verb.value], "callback_data": self.data(press)}
            for press in presses
        ]
        rows = [buttons[:1], buttons[1:]] if Verb.ACK in verbs else [buttons]
        return {"inline_keyboard": [row for row in rows if row]}


def verbs_of(kind: str, state: str) -> tuple[Verb, ...]:
    """What may be pressed, by how the incident stands."""
    if kind == "acked" or (kind in ("firing", "unknown") and state == "ACKED"):
        return (Verb.SNOOZE, Verb.RESOLVE)
    return (Verb.ACK, Verb.SNOOZE, Verb.RESOLVE) if kind in ("firing", "unknown") else ()
