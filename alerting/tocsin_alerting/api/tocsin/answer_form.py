"""What a form of the page behind a link asks for, as an action of its sender."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import parse_qsl

from tocsin_alerting.incidents.actions import Action, Verb
from tocsin_alerting.incidents.incident import Incident, IncidentState
from tocsin_alerting.notify.signed_links import LinkTarget

SNOOZES_MIN = (15, 60, 240)
MAX_NAME, _MAX_NOTE = 64, 1000  # characters
_MOST_FIELDS = 20
_VERBS = frozenset({*Verb, "take"})


class NotDone(Exception):
    """Why nothing happened: `words` is a key of the page's words, `about` fills them."""

    def __init__(self, words: str, about: str = "") -> None:
        super().__init__(words)
        self.words, self.about = words, about


@dataclass(frozen=True, slots=True)
class LinkReader:
    """Who reads the page: `name` is "" where a link of many readers does not say it yet. `asked`:
    he may say another name."""

    name: str
    via: str
    asked: bool

    @classmethod
    def of(cls, target: LinkTarget, said: str) -> "LinkReader":
        """A link to a contact says who it is, and nobody overrules that."""
        if target.contact:
            return cls(target.contact, "link", False)
        return cls(person_name(said), f"link {target.receiver}", True)


def person_name(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_NAME])
    return " ".join(shown.split())[:MAX_NAME]


def form_fields(body: bytes) -> dict[str, str]:
    """The fields that were sent. Raises NotDone for what is no form."""
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise NotDone("failed_form") from None
    return dict(pairs)


def action_of(
    sent: Mapping[str, str], incident: Incident, reader: LinkReader, nonce: str, now_ms: int
) -> Action:
    """Raises NotDone. The same form is one action, however often it is posted."""
    do, _, detail = sent.get("do", "").partition(" ")
    if do not in _VERBS or not reader.name:
        raise NotDone("failed_form")
    verb = Verb.ACK if do == "take" else Verb(do)
    note = sent.get("note", "").strip()[:_MAX_NOTE]
    if verb is Verb.ACK and do != "take" and _is_others(incident, reader.name):
        raise NotDone("failed_owned", incident.owner)
    if verb is Verb.RESOLVE and sent.get("confirm") != "yes":
        raise NotDone("failed_confirm")
    if (verb is Verb.COMMENT and not note) or (verb is Verb.ASSIGN and not sent.get("to")):
        raise NotDone("failed_form")
    return Action(
        verb,
        incident.number,
        actor=reader.name,
        note=note,
        request_id=_request_id(sent, nonce),
        until_ms=_until_ms(detail, now_ms) if verb is Verb.SNOOZE else None,
        false_positive=sent.get("false_positive") == "yes",
        to=person_name(sent.get("to", "")) if verb is Verb.ASSIGN else "",
        via=reader.via,
    )


def _is_others(incident: Incident, name: str) -> bool:
    """Somebody acknowledged it himself, and the page that was pressed may not have known."""
    owned = incident.state is IncidentState.ACKED and not incident.assigned_by
    return owned and incident.owner != name


def _until_ms(minutes: str, now_ms: int) -> int:
    if minutes not in map(str, SNOOZES_MIN):
        raise NotDone("failed_form")
    return now_ms + int(minutes) * 60_000


def _request_id(sent: Mapping[str, str], nonce: str) -> str:
    """One form may be sent again, and its page may have several buttons."""
    content = repr(sorted((name, text) for name, text in sent.items() if name != "form"))
    return f"link/{nonce}/{sha256(content.encode('utf-8', 'replace')).hexdigest()[:24]}"
