"""The fault record of an incident: what a report of it says, in the fields of such reports.

What the agent knows is filled in; the rest a person fills in by comments with fields, also when it
is long over. Of a field that was filled in twice the last text counts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from tocsin_alerting.annotations import annotation_texts
from tocsin_alerting.incidents.changeset import HistoryEntry
from tocsin_alerting.incidents.history_words import LANGUAGES, line_words
from tocsin_alerting.incidents.incident import Member, began_ms
from tocsin_alerting.incidents.notification import title, worst_first
from tocsin_alerting.incidents.records import IncidentTimeline
from tocsin_alerting.incidents.routing import IncidentConfig
from tocsin_alerting.time_format import elapsed_text, rfc3339

# What a person fills in by `comment --field NAME=TEXT`, and what each is for.
FIELDS: Mapping[str, str] = {
    "impact": "who was affected, and how",
    "phenomenon": "what was seen",
    "cause": "the root cause in one word, for statistics",
    "direct_cause": "what broke",
    "indirect_cause": "what let it break",
    "root_cause": "why that was so",
    "handling": "what was done",
    "lessons": "what is to be different",
}

MAX_ALERTS = 50  # in a record
_HEADINGS: Mapping[str, tuple[str, str]] = {
    "record": ("Fault record", "故障记录"),
    "time": ("Time", "时间"),
    "level": ("Level", "级别"),
    "duration": ("Duration", "持续时间"),
    "state": ("State", "状态"),
    "people": ("People", "参与人"),
    "impact": ("Impact", "影响范围"),
    "phenomenon": ("Phenomenon", "故障现象"),
    "cause": ("Cause, in a word", "原因分类"),
    "direct_cause": ("Direct cause", "直接原因"),
    "indirect_cause": ("Indirect cause", "间接原因"),
    "root_cause": ("Root cause", "根本原因"),
    "handling": ("Handling", "处理过程"),
    "timeline": ("Timeline", "时间线"),
    "lessons": ("Lessons", "经验教训"),
}
_UNFILLED = (
    '*not filled in: `alertctl comment {number} --field {name}="..."`*',
    '*未填写：`alertctl comment {number} --field {name}="..."`*',
)
_GOES_ON = ("goes on", "未结束")
_SECTIONS = (
    *("impact", "phenomenon", "direct_cause", "indirect_cause", "root_cause"),
    *("handling", "timeline", "lessons"),
)
_HANDLING = frozenset(  # what people did
    "acked unacked assigned escalated snoozed closed_by_hand commented".split()
)


def fault_record(
    story: IncidentTimeline, config: IncidentConfig, now_ms: int, language: str = "en"
) -> dict[str, Any]:
    """Times are RFC 3339; `fields` are those that a person filled in."""
    incident = story.incident
    began = began_ms(incident, now_ms)
    start_ms = incident.opened_at_ms if began is None else min(began, incident.opened_at_ms)
    end_ms = incident.resolved_at_ms
    lines = [_line(entry, language) for entry in story.history]
    handled = [
        line
        for line, entry in zip(lines, story.history, strict=True)
        if entry.event in _HANDLING and not (entry.data.get("fields") and not entry.data["note"])
    ]
    return {
        "incident": incident.number,
        "title": title(incident),
        "level": incident.severity,
        "state": incident.state,
        "began": rfc3339(start_ms),
        "opened": rfc3339(incident.opened_at_ms),
        "acknowledged": _time_of(story.history, "acked"),
        "ended": rfc3339(end_ms) if end_ms else None,
        "duration_seconds": ((end_ms or now_ms) - start_ms) / 1000,
        "people": sorted({entry.actor for entry in story.history if entry.actor}),
        "alerts": [_alert(member) for member in worst_first(incident, config, MAX_ALERTS)],
        "alert_count": len(incident.members),
        "fields": _fields(story.history),
        "handling": handled,
        "timeline": lines,
    }


def _line(entry: HistoryEntry, language: str) -> dict[str, str]:
    text = line_words(entry.event, entry.actor, entry.data, entry.at_ms, language)
    return {"at": rfc3339(entry.at_ms), "text": text}


def _time_of(history: Iterable[HistoryEntry], event: str) -> str | None:
    return next((rfc3339(entry.at_ms) for entry in history if entry.event == event), None)


def _alert(member: Member) -> dict[str, Any]:
    alert = member.alert
    texts = annotation_texts(dict(alert.annotations))
    return {
        "labels": dict(alert.labels),
        "text": next(iter(texts), ""),
        "value": alert.value if alert.value == alert.value else None,
        "began": rfc3339(alert.active_at_ms),
        "ended": rfc3339(member.ended_at_ms) if member.ended_at_ms else None,
    }


def _fields(history: Sequence[HistoryEntry]) -> dict[str, str]:
    """The cause that was given at the end counts as filled in, too."""
    filled: dict[str, str] = {}
    for entry in history:
        if entry.event == "closed_by_hand" and entry.data.get("cause"):
            filled["cause"] = str(entry.data["cause"])
        if entry.event == "commented":
            filled |= {name: str(text) for name, text in entry.data.get("fields", {}).items()}
    return {name: filled[name] for name in FIELDS if name in filled}


def markdown(record: Mapping[str, Any], zone: tzinfo, language: str = "en") -> str:
    """The record for people, with times in `zone`."""
    return "\n".join(_markdown(record, zone, LANGUAGES.index(language))) + "\n"


def _markdown(record: Mapping[str, Any], zone: tzinfo, language: int) -> Iterator[str]:
    fields, heading = record["fields"], {name: both[language] for name, both in _HEADINGS.items()}
    began, ended = _clock(record["began"], zone), record["ended"]
    until = _clock(ended, zone) if ended else _GOES_ON[language]
    cause = fields.get("cause") or _unfilled(record, "cause", language)
    yield f"# {heading['record']} #{record['incident']}: {_plain(record['title'])}"
    yield ""
    facts = (
        ("time", f"{began} – {until}"),
        ("level", record["level"]),
        ("duration", elapsed_text(round(1000 * record["duration_seconds"]))),
        ("state", record["state"]),
        ("people", ", ".join(map(_plain, record["people"])) or "-"),
        ("cause", cause),
    )
    yield from (f"- **{heading[name]}**: {value}" for name, value in facts)
    for name in _SECTIONS:
        yield from ("", f"## {heading[name]}", "")
        yield from _section(record, name, zone, language)


def _section(record: Mapping[str, Any], name: str, zone: tzinfo, language: int) -> Iterator[str]:
    """What a person wrote, and what the agent knows."""
    written = record["fields"].get(name)
    if written:
        yield _plain(written)
    known = {
        "phenomenon": (_phenomenon(alert, zone) for alert in record["alerts"]),
        "handling": (_point(line, zone) for line in record["handling"]),
        "timeline": (_point(line, zone) for line in record["timeline"]),
    }
    lines = list(known.get(name, ()))
    if written and lines:
        yield ""
    yield from lines
    if not written and not lines:
        yield _unfilled(record, name, language)


def _phenomenon(alert: Mapping[str, Any], zone: tzinfo) -> str:
    labels = ", ".join(f'{name}="{value}"' for name, value in sorted(alert["labels"].items()))
    value = "" if alert["value"] is None else f" = {alert['value']:g}"
    ended = f" – {_clock(alert['ended'], zone)}" if alert["ended"] else ""
    span = f"{_clock(alert['began'], zone)}{ended}"
    return f"- {span}: {_plain(alert['text'])} `{{{_plain(labels)}}}`{value}"


def _point(line: Mapping[str, str], zone: tzinfo) -> str:
    return f"- {_clock(line['at'], zone)} {_plain(line['text'])}"


def _unfilled(record: Mapping[str, Any], name: str, language: int) -> str:
    return _UNFILLED[language].format(number=record["incident"], name=name)


def _clock(at: str, zone: tzinfo) -> str:
    return f"{datetime.fromisoformat(at).astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"


def _plain(text: str) -> str:
    """What strangers wrote into a label makes no tag and no line of its own."""
    return " ".join(text.split()).replace("<", "&lt;").replace("`", "'")
