"""The page behind a link, as HTML that a phone shows without a script: how an incident stands, who
has it, what comes next, and the buttons that its state allows."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from tocsin_alerting.annotations import OWN_RUNBOOKS, annotation_texts
from tocsin_alerting.api.tocsin.answer_form import MAX_NAME, SNOOZES_MIN, LinkReader
from tocsin_alerting.api.tocsin.answer_words import PageWords
from tocsin_alerting.api.tocsin.incidents import incident_next
from tocsin_alerting.incidents.actions import re_raise_after_ms
from tocsin_alerting.incidents.history_words import line_words
from tocsin_alerting.incidents.incident import (
    Condition,
    Incident,
    IncidentState,
    Member,
    TimerKind,
    began_ms,
)
from tocsin_alerting.incidents.notification import title, worst_first
from tocsin_alerting.incidents.records import IncidentTimeline
from tocsin_alerting.incidents.roster import resolve
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.notify.message_templates import line, link
from tocsin_alerting.promql.parser.printer import print_expr
from tocsin_alerting.rules.rule import AlertingRule
from tocsin_alerting.settings import number_text
from tocsin_alerting.time_format import elapsed_text

_LINES = 10  # of the history, the newest
_MOST_LABELS = 12
_MOST_NEXT = 3
_SLO = frozenset({TimerKind.SLO_WARN, TimerKind.SLO_BREACH})  # of what is still open
_TEMPLATES = PackageLoader("tocsin_alerting.api.tocsin")
# State -> the class that gives its colour; what nobody has is coloured by its severity.
_TONES = {
    "acked": "calm",
    "acked_you": "calm",
    "assigned": "calm",
    "snoozed": "quiet",
    "muted": "quiet",
    "unknown": "doubt",
    "clear": "quiet",
    "resolved": "good",
    "given_up": "doubt",
    "unwatched": "quiet",
    "closed_firing": "warn",
    "closed_unknown": "doubt",
    "over": "quiet",
}


@dataclass(frozen=True, slots=True)
class AnswerView:
    """What a page is made of. `form` is what its forms carry, `worst` the worst alert; `said` is a
    notice, its tone first; `chart` is markup, `value` the newest in it. `is_over`: nothing can be
    done any more.
    `link_name` is the last part of the page's own address; what it links to is relative to it."""

    story: IncidentTimeline
    config: IncidentConfig
    reader: LinkReader
    words: PageWords
    now_ms: int
    zone: tzinfo
    form: str
    worst: Member | None = None
    rule: AlertingRule | None = None
    chart: str = ""
    value: float | None = None
    contacts: Sequence[str] = ()
    said: tuple[str, str] | None = None
    recorded: bool = True
    confirm: bool = False
    is_over: bool = False
    link_name: str = ""

    @property
    def incident(self) -> Incident:
        return self.story.incident

    def clock(self, at_ms: int) -> str:
        return _clock(at_ms, self.now_ms, self.zone)


class AnswerPages:
    """Renders; the templates are compiled at the start."""

    def __init__(self) -> None:
        environment = Environment(
            loader=_TEMPLATES,
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        source, _, _ = _TEMPLATES.get_source(environment, "answer.css")
        self.style = Markup(source.strip())
        digest = base64.b64encode(hashlib.sha256(source.strip().encode()).digest()).decode()
        self.style_source = f"'sha256-{digest}'"
        self._page = environment.get_template("answer.html")
        self._text = environment.get_template("answer_text.html")

    def page(self, view: AnswerView) -> str:
        return self._page.render(_context(view), w=view.words, style=self.style)

    def runbook_name(self, story: IncidentTimeline | None, config: IncidentConfig) -> str:
        """Of its worst alert, where it is one of ours; else ""."""
        worst = worst_first(story.incident, config, 1) if story else []
        urls = [dict(member.alert.annotations).get("runbook_url", "") for member in worst]
        return next((name for name, ours in map(_runbook, urls) if ours), "")

    def over(self, words: PageWords) -> str:
        """Of what is over and no longer known."""
        return self.text(words, words["over"], words["over_why"], "")

    def text(self, words: PageWords, heading: str, text: str, back: str) -> str:
        """A page of text; `back` is where it came from, relative to itself."""
        return self._text.render(w=words, style=self.style, heading=heading, text=text, back=back)


def _context(view: AnswerView) -> dict[str, Any]:
    incident, words, worst = view.incident, view.words, view.worst
    notes = dict(worst.alert.annotations) if worst else {}
    texts = annotation_texts(notes)
    state = "over" if view.is_over and incident.state is IncidentState.CLOSED else _state(view)
    return {
        "tone": _TONES.get(state, incident.severity.value.lower()),
        "state": _state_words(view, state),
        "drill": incident.drill,
        "severity": words[incident.severity.value],
        "number": incident.number,
        "title": line(title(incident)),
        "summary": line(texts[0]) if texts else line(title(incident)),
        "description": [line(text) for text in texts[1:2]],
        "facts": list(_facts(view)),
        "said": view.said,
        "recorded": view.recorded,
        "form": view.form,
        "link_name": view.link_name,
        "reader": view.reader,
        "is_over": view.is_over,
        "actions": _actions(view) if view.reader.name and not view.is_over else None,
        "asks_who": view.reader.asked and not view.reader.name and incident.is_open,
        "contacts": [name for name in view.contacts if name != view.reader.name],
        "most_name": MAX_NAME,
        "chart": Markup(view.chart),
        "rule": print_expr(view.rule.query) if view.rule else "",
        "value": "" if view.value is None else number_text(view.value),
        "has_rule": view.rule is not None,
        "alerts": len(incident.members),
        "runbook": _runbook(notes.get("runbook_url", "")),
        "dashboard": link(notes.get("dashboard_url", "")),
        "history": list(_history(view)),
        "zone": _zone_name(view.now_ms, view.zone),
        "reload": f"?who={_quoted(view.reader.name)}" if view.reader.asked else "?",
    }


def _state(view: AnswerView) -> str:
    """The word that says most about it: whose it is, then what keeps it quiet."""
    incident = view.incident
    unknown = incident.source is Condition.UNKNOWN
    match incident.state:
        case _ if incident.is_open and incident.source is Condition.CLEAR:
            return "clear"
        case IncidentState.ACKED if incident.assigned_by:
            return "assigned"
        case IncidentState.ACKED:
            return "acked_you" if incident.owner == view.reader.name else "acked"
        case IncidentState.SNOOZED:
            return "snoozed"
        case IncidentState.TRIGGERED if incident.muted:
            return "muted"
        case IncidentState.TRIGGERED:
            return "unknown" if unknown else "nobody"
    if incident.closed_by_hand:
        return "closed_unknown" if unknown else "closed_firing"
    return incident.ended_as if incident.ended_as in ("given_up", "unwatched") else "resolved"


def _state_words(view: AnswerView, state: str) -> str:
    about = view.incident.owner
    if state == "snoozed":
        timers = {timer.kind: timer.due_at_ms for timer in view.story.timers}
        about = view.clock(timers.get(TimerKind.SNOOZE_END, view.now_ms))
    return view.words[state].format(line(about))


def _facts(view: AnswerView) -> Iterator[tuple[str, str]]:
    incident, words, worst, now_ms = view.incident, view.words, view.worst, view.now_ms
    end_ms = now_ms if incident.is_open else incident.resolved_at_ms or now_ms
    found = began_ms(incident, end_ms)
    began = incident.opened_at_ms if found is None else found
    lasted = elapsed_text(end_ms - began)
    since = _moment(began, view.zone)
    if incident.is_open:
        yield words["since"], f"{since}, {words.fill('for', lasted)}"
        yield words["owner"], line(incident.owner) if _has_owner(incident) else words["nobody"]
        yield from _next_facts(view)
    else:
        yield words["since"], since
        yield words["closed" if incident.closed_by_hand else "ended"], _moment(end_ms, view.zone)
        yield words["lasted"], lasted
        if not view.is_over:
            yield from _next_facts(view)
    labels = dict(worst.alert.labels) if worst else dict(incident.group_labels)
    shown = [f"{n}={v}" for n, v in sorted(labels.items()) if n not in ("alertname", "severity")]
    if shown:
        yield words["machine"], line(", ".join(shown[:_MOST_LABELS]))
    if len(incident.members) > 1:
        yield "", words.fill("more_alerts", len(incident.members))


def _has_owner(incident: Incident) -> bool:
    return incident.state is IncidentState.ACKED and bool(incident.owner)


def _next_facts(view: AnswerView) -> Iterator[tuple[str, str]]:
    """What its timers do next, the first of them first."""
    incident, words = view.incident, view.words
    if incident.state is IncidentState.TRIGGERED and incident.muted:
        yield words["next"], words["next_muted"]
        return
    if incident.is_open and incident.hold_until_ms is not None:
        at = view.clock(incident.hold_until_ms)
        yield words["next"], words.fill("next_hold_end", at=at)
        return
    timers = [t for t in view.story.timers if incident.is_open or t.kind not in _SLO]
    found = [incident_next(incident, [timer], view.config) for timer in timers]
    lines = [_next_words(view, one) for one in found if one is not None]
    for number, text in enumerate(lines[:_MOST_NEXT] or [words["next_nothing"]]):
        yield "" if number else words["next"], text


def _next_words(view: AnswerView, found: Mapping[str, Any]) -> str:
    at = view.clock(found["at_ms"])
    left = elapsed_text(found["at_ms"] - view.now_ms)
    who = view.words["comma"].join(map(line, found["who"])) or view.words["again_same"]
    return view.words.fill(f"next_{found['what']}", at=f"{at} ({left})", who=who)


def _actions(view: AnswerView) -> dict[str, Any] | None:
    """What its state allows; None where nothing can be done."""
    incident, words, reader = view.incident, view.words, view.reader
    if not incident.is_open:
        return None
    mine = incident.state is IncidentState.ACKED and incident.owner == reader.name
    others = incident.state is IncidentState.ACKED and not mine and not incident.assigned_by
    return {
        "ack": "" if mine and not incident.assigned_by or others else words["ack"],
        "take": words.fill("take", line(incident.owner)) if others else "",
        "unack": incident.state is IncidentState.ACKED,
        "snoozes": [
            (f"snooze {minutes}", words.fill("snooze_for", elapsed_text(minutes * 60_000)))
            for minutes in SNOOZES_MIN
            if _may_snooze(incident, minutes * 60_000)
        ],
        "escalate": _escalation(view),
        "resolve_why": _resolve_why(view),
        "confirm": view.confirm,
        "assignable": [name for name in view.contacts if name != incident.owner],
    }


def _may_snooze(incident: Incident, span_ms: int) -> bool:
    longest_ms = incident.policy.snooze_max_ms
    return longest_ms is None or span_ms <= longest_ms


def _escalation(view: AnswerView) -> str:
    """Whom the next step pages; "" where there is none."""
    incident = view.incident
    step = incident.step + 1
    if step >= len(incident.policy.steps):
        return ""
    recipients = incident.policy.steps[step].notify
    people = resolve(recipients, view.config.roster, view.now_ms, incident.severity)
    names = dict.fromkeys(one.contact or one.receiver for one in people)
    who = view.words["comma"].join(map(line, names or map(str, recipients)))
    return view.words.fill("escalate_why", who)


def _resolve_why(view: AnswerView) -> str:
    if view.incident.source is Condition.UNKNOWN:
        return view.words["resolve_unknown"]
    return view.words.fill("resolve_why", elapsed_text(re_raise_after_ms(view.incident)))


def _runbook(url: str) -> tuple[str, bool]:
    """Where it is, and whether that is with us: then the page shows it itself."""
    if url.startswith(OWN_RUNBOOKS):
        return url.removeprefix(OWN_RUNBOOKS), True
    return link(url), False


def _history(view: AnswerView) -> Iterator[tuple[str, str]]:
    """The newest first."""
    for entry in view.story.history[: -_LINES - 1 : -1]:
        text = line_words(entry.event, entry.actor, entry.data, entry.at_ms, view.words.language)
        yield view.clock(entry.at_ms), line(text)


def _clock(at_ms: int, now_ms: int, zone: tzinfo) -> str:
    """`10:02:31`, with the day where that is another one."""
    at, now = (datetime.fromtimestamp(ms // 1000, zone) for ms in (at_ms, now_ms))
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%m-%d %H:%M:%S}"


def _moment(at_ms: int, zone: tzinfo) -> str:
    at = datetime.fromtimestamp(at_ms // 1000, zone)
    return f"{at:%Y-%m-%d %H:%M:%S} {_zone_name(at_ms, zone)}"


def _zone_name(at_ms: int, zone: tzinfo) -> str:
    """`CST (+08:00)`: many zones share a short name."""
    at = datetime.fromtimestamp(at_ms // 1000, zone)
    offset = f"{at:%z}"
    name = at.tzname() or ""
    return name if name == "UTC" else f"{name} ({offset[:3]}:{offset[3:5]})"


def _quoted(text: str) -> str:
    return quote(text, safe="")
