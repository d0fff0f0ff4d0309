"""A message in parts, for what has a form of its own: cards of chats, a phone's words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

# By how it stands; where nothing is said here, it fires and the severity decides.
COLOURS: Mapping[str, str] = {
    "P0": "#b00020",
    "P1": "#c2410c",
    "P2": "#8a6400",
    "P3": "#1864ab",
    "P4": "#5c677d",
    "resolved": "#2b7a3b",
    "missed": "#2b7a3b",
    "closed_firing": "#8a6400",
    "closed_unknown": "#5f3dc4",
    "acked": "#3d5a80",
    "unknown": "#5f3dc4",
    "given_up": "#5c677d",
    "unwatched": "#5c677d",
    "silence_ends": "#3d5a80",
    "digest": "#3d5a80",
    "test": "#5c677d",
}
OVER = frozenset({"resolved", "given_up", "unwatched", "missed"})


@dataclass(frozen=True, slots=True)
class MessageParts:
    """A notification in the reader's language. Nothing is escaped.

    `subject` has severity, machine, summary and number in a line; `head` is how it stands. `kind`
    is one of the words by which templates tell messages apart. `lines` are labels with their
    values, the important ones first; `paragraphs` what else is said, the most important first.
    `links` are labels with URLs, without `answer_url`, by which the addressee answers ("" without
    one). `command` is how it is answered at a terminal.
    """

    subject: str
    head: str
    kind: str
    severity: str
    numbers: str
    owned: bool = False
    lines: tuple[tuple[str, str], ...] = ()
    paragraphs: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    answer_url: str = ""
    answer_label: str = ""
    command: str = ""
    colon: str = ": "

    @property
    def colour(self) -> str:
        """That of how it stands, `#b00020`."""
        return colour_of(self.kind, self.severity, owned=self.owned)

    def told_by(self, text: str) -> "MessageParts":
        """The same with a text of the operator's in place of ours. What answers it stays: subject,
        number, link and command."""
        paragraphs = tuple(filter(None, (part.strip() for part in text.split("\n\n"))))
        return replace(self, lines=(), paragraphs=paragraphs, links=())


def colour_of(kind: str, severity: str, *, owned: bool) -> str:
    """Acknowledged is not red: nobody is needed."""
    if kind in COLOURS:
        return COLOURS[kind]
    return COLOURS["acked"] if owned else COLOURS.get(severity, COLOURS["test"])


def message_parts(shown: Mapping[str, Any], subject: str, words: Any) -> MessageParts:
    """Of what the templates see, in the words of their language."""
    label: Mapping[str, str] = words.label
    over = shown["kind"] in OVER
    links = [(label["runbook"], alert["runbook"]) for alert in shown["alerts"][:1]]
    links += [(label["dashboard"], alert["dashboard"]) for alert in shown["alerts"][:1]]
    links = [] if over else links
    return MessageParts(
        subject=subject,
        head=shown["head"],
        kind=shown["kind"],
        severity=shown["severity"],
        numbers=shown["numbers"],
        owned=shown["owned"],
        lines=tuple((name, value) for name, value in _lines(shown, words) if value),
        paragraphs=tuple(text for text in _paragraphs(shown, words) if text),
        links=tuple((name, url) for name, url in [*links, (label["agent"], shown["link"])] if url),
        answer_url=shown["answer_url"],
        answer_label=label["look"] if over else label["answer"],
        command=f"{shown['alertctl']} ack {shown['incident']}" if shown["answerable"] else "",
        colon=label["colon"],
    )


def _lines(shown: Mapping[str, Any], words: Any) -> Iterator[tuple[str, str]]:
    label, kind = words.label, shown["kind"]
    for name in ("machine", "model", "engine", "gpu"):
        yield label[name], shown[name]
    yield label["severity"], words.severities.get(shown["severity"], shown["severity"])
    if shown["value"] and kind not in OVER:
        limit = f" ({label['limit'] % shown['limit']})" if shown["limit"] else ""
        lost = kind in ("unknown", "closed_unknown")
        yield label["last_value" if lost else "value_row"], f"{shown['value']}{limit}"
    if kind in ("resolved", "missed"):
        span = f"{label['from']} {shown['since']} {label['to']} {shown['until']}"
        yield label["lasted"], f"{shown['lasted']}{label['comma_then']}{span}"
    elif shown["since"]:
        comma = label["comma_then"]
        age = f"{comma}{label['for']} {shown['age']}" if shown["age"] else ""
        times = f"{comma}{words.nth(shown['times'])}" if shown["times"] else ""
        silenced = kind == "silence_ends"
        yield label["silenced" if silenced else "since"], f"{shown['since']}{age}{times}"
    yield label["incident"], shown["numbers"] if kind == "silence_ends" else _title(shown)
    yield label["silence"], shown["title"] if kind == "silence_ends" else ""
    yield from shown["rows"]
    yield label["by"], shown["actor"]
    yield label["note"], shown["note"]
    yield label["told"], label["comma"].join(shown["others"])
    if shown["next_at"]:
        yield _next(shown, label)
    if shown["numbers_then"]:
        comma, then = label["comma_then"], shown["numbers_then"]
        numbers = (f"{words.evidence.get(name, name)} {number}" for name, number in then)
        yield label["then"] % shown["fired_clock"], comma.join(numbers)


def _title(shown: Mapping[str, Any]) -> str:
    title = "" if shown["kind"] == "digest" else shown["title"]
    return " ".join(filter(None, (shown["numbers"], title)))


def _next(shown: Mapping[str, Any], label: Mapping[str, str]) -> tuple[str, str]:
    if shown["kind"] in ("closed_firing", "closed_unknown"):
        return label["again"], shown["next_at"]
    if shown["kind"] == "silence_ends":
        return label["silence_ends"], shown["next_at"]
    who = label["comma"].join(shown["next_to"]) or label["same"]
    return label["next"], f"{who}{label['comma_then']}{label['at']} {shown['next_at']}"


def _paragraphs(shown: Mapping[str, Any], words: Any) -> Iterator[str]:
    label, test = words.label, shown["kind"] == "test"
    if shown["drill"]:
        yield f"{label['drill']}{label['colon']}{label['drill_why']}"
    if shown["not_recorded"]:
        yield f"{label['unrecorded']}{label['colon']}{label['unrecorded_why']}"
    if shown["head"] != shown["what"]:
        yield shown["head"]
    if not test:
        unanswered = [label["unanswered"] % one for one in shown["unanswered"]]
        yield " ".join(filter(None, [words.why[shown["reason"]], *unanswered]))
    yield from shown["items"]
    for number, alert in enumerate(shown["alerts"] if shown["kind"] not in OVER else ()):
        said = [alert["summary"] if number else "", alert["description"], alert["labels"]]
        yield "\n".join(filter(None, said))
    if shown["more"] and shown["kind"] not in OVER:
        yield label["more"] % shown["more"]
