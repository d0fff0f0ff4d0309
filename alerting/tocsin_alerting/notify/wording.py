"""What a message says, in the reader's language: templates, one set a language."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from tocsin_alerting.incidents.notification import Notification, NotifiedAlert, Reason
from tocsin_alerting.notify.links import shown_links
from tocsin_alerting.settings import duration_text

LANGUAGES = ("en", "zh")
_CLOSED = (Reason.CLOSED_BY_HAND, Reason.CLOSED_UNKNOWN)
_UNANSWERABLE = (Reason.TEST, Reason.GIVEN_UP, *_CLOSED)
_MOST_ALERTS = 20
_LONGEST_TEXT = 4000


class Wording:
    """Renders notifications in one language, with times in `zone` and in UTC."""

    def __init__(self, language: str = "en", zone: tzinfo = UTC) -> None:
        self._zone = zone
        environment = Environment(
            loader=PackageLoader("tocsin_alerting.notify"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        # Compiled now: on a busy machine that takes a second which the first page does not have.
        self._templates = {
            name: environment.get_template(f"{language}/{name}")
            for name in ("line.txt", "subject.txt", "text.txt", "page.html")
        }
        for shared in (f"{language}/words.txt", "layout.html"):
            environment.get_template(shared)

    def line(self, notification: Notification) -> str:
        """All in one line, for a log: what it is, its summary, how to answer."""
        return _one_line(self._render("line.txt", notification), longest=500)

    def subject(self, notification: Notification) -> str:
        """`[P0] InferenceEngineDown 127.0.0.1:8000 (#42)`, resolved `[P0 resolved] …`."""
        return _one_line(self._render("subject.txt", notification))

    def text(self, notification: Notification) -> str:
        return self._render("text.txt", notification).strip() + "\n"

    def html(self, notification: Notification) -> str:
        return self._render("page.html", notification).strip() + "\n"

    def _render(self, name: str, notification: Notification) -> str:
        return self._templates[name].render(view(notification, self._zone))


def view(notification: Notification, zone: tzinfo = UTC) -> Mapping[str, Any]:
    """The notification as the templates see it: times and durations are text, control
    characters are gone, and a link is there only when it is one to http or https."""
    n = notification
    hidden = {*n.group_labels, "alertname", "severity"}
    alerts = [_alert(alert, hidden, n, zone) for alert in n.alerts[:_MOST_ALERTS]]
    return {
        "severity": n.severity,
        "title": _clean(n.title),
        "incident": n.incident,
        "reason": n.reason.value,
        "resolved": n.status == "resolved",
        "answerable": n.status != "resolved" and n.reason not in _UNANSWERABLE,
        "closed": n.reason in _CLOSED,
        "began": _clock(n.opened_at_ms, n.at_ms, zone),
        "ended": _clock(n.at_ms, n.at_ms, zone),
        "since": _moment(n.opened_at_ms, zone),
        "at": _moment(n.at_ms, zone),
        "lasted": _span(n.at_ms - n.opened_at_ms),
        "step": n.step + 1,
        "loop": n.loop,
        "alerts": alerts,
        "more": len(n.alerts) - len(alerts) + n.truncated_alerts,
        "actor": _clean(n.actor),
        "note": _clean(n.note),
        "others": [_clean(other) for other in n.others],
        "next_at": "" if n.next_at_ms is None else _moment(n.next_at_ms, zone),
        "next_to": [_clean(other) for other in n.next_to],
        "not_recorded": n.not_recorded,
        "link": _link(n.external_url),
    }


def _alert(
    alert: NotifiedAlert, hidden: set[str], n: Notification, zone: tzinfo
) -> Mapping[str, object]:
    notes = shown_links(alert.annotations, n.external_url)
    until_ms = n.at_ms if alert.ends_at_ms is None else alert.ends_at_ms
    return {
        "resolved": alert.status == "resolved",
        "summary": _clean(notes.get("summary") or alert.labels.get("alertname", "")),
        "description": _clean(notes.get("description", "")),
        "runbook": _link(notes.get("runbook_url", "")),
        "dashboard": _link(notes.get("dashboard_url", "")),
        "value": f"{alert.value:.6g}",
        "since": _moment(alert.starts_at_ms, zone),
        "lasted": _span(until_ms - alert.starts_at_ms),
        "labels": _clean(
            ", ".join(f"{k}={v}" for k, v in sorted(alert.labels.items()) if k not in hidden)
        ),
    }


def _moment(ms: int, zone: tzinfo) -> str:
    utc = datetime.fromtimestamp(ms // 1000, UTC)
    local = utc.astimezone(zone)
    if local.utcoffset() == utc.utcoffset():
        return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    return f"{local:%Y-%m-%d %H:%M:%S %z} ({utc:%H:%M:%S} UTC)"


def _clock(ms: int, today_ms: int, zone: tzinfo) -> str:
    """`10:02`, with the day when it is another one than that of `today_ms`."""
    at, today = (datetime.fromtimestamp(one // 1000, zone) for one in (ms, today_ms))
    return f"{at:%H:%M}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M}"


def _span(ms: int) -> str:
    return duration_text(max(ms, 0) // 1000 * 1000)


def _clean(text: str) -> str:
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in text[: _LONGEST_TEXT + 1])
    return kept if len(kept) <= _LONGEST_TEXT else kept[: _LONGEST_TEXT - 1] + "…"


def _one_line(text: str, longest: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _link(url: str) -> str:
    try:
        usable = urlsplit(url).scheme in ("http", "https") and url.isprintable() and " " not in url
    except ValueError:
        return ""
    return url if usable else ""
