"""What a message says, in the reader's language: templates, the words of each language, and a
notification as the templates see it. There times, durations and numbers are text, control
characters are gone, and a link is there only when it is one to http or https.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from zlib import crc32

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape

from tocsin_alerting.annotations import (
    EXPANSION_FAILED,
    OWN_RUNBOOKS,
    absolute_links,
    annotation_texts,
)
from tocsin_alerting.incidents.damping import FIRED_AGAIN, WITHIN
from tocsin_alerting.incidents.escalation import WAS_MUTED
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.joining import NEW_ALERTS
from tocsin_alerting.incidents.notification import Evidence, Notification, NotifiedAlert
from tocsin_alerting.notify.counted_words import digest_context, storm_context
from tocsin_alerting.notify.message_parts import MessageParts, colour_of, message_parts
from tocsin_alerting.notify.own_templates import OwnTemplates
from tocsin_alerting.notify.signed_links import SignedLinks
from tocsin_alerting.settings import number_text
from tocsin_alerting.time_format import elapsed_text
from tocsin_exporter.engine_access import canonical_host
from tocsin_exporter.targets import SCRAPE_CONFIGS

TemplateContext = Mapping[str, Any]
_TEMPLATE_FILES = ("line.txt", "subject.txt", "text.txt", "page.html")

_MAX_ALERTS = 20
_MAX_TEXT = 4000
_MOST_URL = 2000  # characters, several times in a message of 8 KB
_HOST = re.compile(r"([\w.~%!$&*+,;=:-]+@)?([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_KEPT_IN_URL = "%/?#:!$&'()*+,;=~"
_MAX_SUBJECT = 110
_LINE_END = 60
_UUID = re.compile(r"\b([0-9A-Fa-f]{8})(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b")
_LOOPBACK_NAMES = frozenset({"", "127.0.0.1"})
_SHOWN_ELSEWHERE = frozenset({"alertname", "instance", "model_name", "target"})
_OWN_JOB_LABELS = frozenset(f"job={rhythm.job}" for rhythm in SCRAPE_CONFIGS.values())
_KIND_BY_REASON = {
    Reason.TEST: "test",
    Reason.ACKED: "acked",
    Reason.UNKNOWN: "unknown",
    Reason.CLOSED_BY_HAND: "closed_firing",
    Reason.CLOSED_UNKNOWN: "closed_unknown",
    Reason.GIVEN_UP: "given_up",
    Reason.UNWATCHED: "unwatched",
    Reason.FIRED_AND_RESOLVED: "missed",
    Reason.SILENCE_ENDS: "silence_ends",
    Reason.DIGEST: "digest",
}
_MOST_NUMBERS = 5  # of a message about many incidents
_CLEAR_NOTE = "clear"  # a note that begins so says no more than that it is over


@cache
def _bundled(language: str) -> tuple[Any, Mapping[str, Template]]:
    """The words of a language, and our templates, compiled before they are needed: on a busy
    machine that takes a second which the first page does not have."""
    environment = Environment(
        loader=PackageLoader("tocsin_alerting.notify"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words: Any = environment.get_template(f"words.{language}.txt").module
    environment.globals |= {"language": language, "w": words}
    return words, {name: environment.get_template(name) for name in _TEMPLATE_FILES}


class MessageTemplates:
    """Renders notifications in one language, with times in `zone` and in UTC; `hostname` is this
    machine's name, and `alertctl` how the reader calls it there. `links` lead to where a message is
    answered. `now_ms` is when it is sent. `own` are the operator's templates, which go before."""

    def __init__(
        self,
        language: str = "en",
        zone: tzinfo = UTC,
        hostname: str = "",
        alertctl: str = "alertctl",
        links: SignedLinks | None = None,
        own: OwnTemplates | None = None,
    ) -> None:
        self.language = language
        self._zone, self._hostname, self._alertctl = zone, hostname, alertctl
        self._links = links or SignedLinks()
        self._last: tuple[Notification, int | None, dict[str, Any]] | None = None
        words, self._templates = _bundled(language)
        self._all_words = words
        self._headlines: Mapping[str, str] = words.headlines
        self._failed_suffix: str = words.label["failed"]
        self._words: Mapping[str, str] = words.label
        self._tags: Mapping[str, str] = words.tags
        self.own = own.compiled(language, {"language": language, "w": words}) if own else None

    @property
    def answers(self) -> Mapping[str, str]:
        """What stands on the buttons of a chat, by verb, and what is told to who presses them."""
        found: Mapping[str, str] = self._all_words.answers
        return found

    def line(self, notification: Notification) -> str:
        """All in one line, for a log: what it is, its summary, how to answer."""
        return _one_line(self._render("line.txt", notification, None), longest=500)

    def subject(self, notification: Notification) -> str:
        """`[P0] gpu-1: Engine 127.0.0.1:8000 does not answer (#42)`, then `[P0 resolved] …`."""
        return _one_line(self._render("subject.txt", notification, None))

    def text(self, notification: Notification, now_ms: int | None = None) -> str:
        return self._render("text.txt", notification, now_ms).strip() + "\n"

    def html(self, notification: Notification, now_ms: int | None = None) -> str:
        return self._render("page.html", notification, now_ms).strip() + "\n"

    def parts(self, notification: Notification, now_ms: int | None = None) -> MessageParts:
        """For chats, which have no page of their own to render."""
        shown = self.context(notification, now_ms)
        parts = message_parts(shown, self.subject(notification), self._all_words)
        said = self.own.render("chat.txt", shown) if self.own else None
        return parts if said is None else parts.told_by(said)

    def fields(self, notification: Notification, now_ms: int | None = None) -> dict[str, str]:
        """Short texts by name, for templates of others that have places for them."""
        shown = self.context(notification, now_ms)
        tag = self._tags[str(shown["kind"])].strip()
        names = ("severity", "machine", "model", "engine", "gpu")
        return (
            {name: str(shown[name]) for name in names}
            | {
                "number": str(shown["numbers"]) or "-",  # a place that is empty may be refused
                "what": str(shown["short"]),
                "state": tag or self._words["storm_firing"],
                "since": str(shown["since"])[:16],
            }
        )

    def body(
        self, name: str, notification: Notification, now_ms: int, message: Mapping[str, Any]
    ) -> str | None:
        """The body of a webhook by the operator's template, which also sees our own body as
        `message`; None where it fails."""
        shown = {**self.context(notification, now_ms), "message": message}
        return self.own.render(name, shown) if self.own else None

    def _render(self, name: str, notification: Notification, now_ms: int | None) -> str:
        shown = self.context(notification, now_ms)
        said = self.own.render(name, shown) if self.own else None
        return self._templates[name].render(shown) if said is None else said

    def context(self, notification: Notification, now_ms: int | None = None) -> dict[str, Any]:
        """All that a template sees besides the words. A mail asks for it three times; for a subject
        alone the age does not matter."""
        last = self._last
        if last is not None and last[0] is notification and now_ms in (None, last[1]):
            return last[2]
        shown = self._context(notification, now_ms)
        self._last = notification, now_ms, shown
        return shown

    def _context(self, notification: Notification, now_ms: int | None) -> dict[str, Any]:
        shown = template_context(
            notification, self._zone, self._hostname, now_ms, self._failed_suffix
        )
        shown = {**shown, "note": self._note_in_words(str(shown["note"]))}
        if notification.counts:
            shown = {**shown, **self._of_many(notification)}
        answer_url = link(self._links.url(notification))
        if answer_url and _runbook_is_behind(notification):
            signed = [{**alert, "runbook": f"{answer_url}/runbook"} for alert in shown["alerts"]]
            shown = {**shown, "alerts": signed}
        kind, owned = str(shown["kind"]), bool(shown["owned"])
        return {
            **shown,
            "head": self._headline(shown),
            "host": line(self._hostname),
            "alertctl": self._alertctl,
            "answer_url": answer_url,
            "colour": colour_of(kind, notification.severity, owned=owned),
        }

    def _note_in_words(self, note: str) -> str:
        """Of the notes that we write ourselves, in the reader's language."""
        if note.startswith(WAS_MUTED):
            return self._words["muted_for"] % note.removeprefix(WAS_MUTED)
        if note.startswith(NEW_ALERTS):
            return self._words["new_alerts"].format(count=note.removeprefix(NEW_ALERTS))
        if note.startswith(FIRED_AGAIN) and WITHIN in note:
            count, _, span = note.removeprefix(FIRED_AGAIN).partition(WITHIN)
            return self._words["fired_again"].format(count=count, span=span)
        return note

    def _of_many(self, notification: Notification) -> TemplateContext:
        if notification.reason is not Reason.DIGEST:
            return storm_context(notification, self._words, line)

        def at(ms: int) -> str:
            return clock(ms, notification.at_ms, self._zone)

        return digest_context(notification, self._words, self._tags, line, at)

    def _headline(self, shown: TemplateContext) -> str:
        """How it stands; what fires, as long as it does and nobody is on it."""
        lasted, actor = str(shown["lasted"]), str(shown["actor"])
        match shown["kind"]:
            case "firing":
                return self._headlines["owned"] if shown["owned"] else str(shown["what"])
            case "acked":
                return self._headlines["acked"] % actor
            case "resolved" | "given_up" | "unwatched" as kind:
                return self._headlines[kind] % lasted
            case "closed_firing" | "closed_unknown" as kind:
                return self._headlines[kind] % actor
            case "silence_ends":
                return self._headlines["silence_ends"] % str(shown["next_clock"])
            case "digest":
                return str(shown["what"])
            case "missed":
                return self._headlines["missed"] % (shown["fired"], shown["ended"])
            case kind:
                return self._headlines[str(kind)]


def _one_line(text: str, longest: int = 200) -> str:
    """Cut in its middle: the number of the incident stands at the end."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    end = line[-_LINE_END:]
    return f"{line[: longest - 1 - len(end)]}…{end}"


def template_context(
    n: Notification,
    zone: tzinfo = UTC,
    hostname: str = "",
    now_ms: int | None = None,
    failed: str = "",
) -> TemplateContext:
    """`hostname` is this machine's: what listens on loopback is on it. `now_ms` is when it is sent,
    which may be minutes after it was decided. `failed` follows the name of an alert none of whose
    texts could be expanded."""
    kind = _kind(n)
    alerts = list(_distinct_alerts(n, zone, failed))
    shown = alerts[:_MAX_ALERTS]
    began_ms = n.opened_at_ms if n.began_at_ms is None else n.began_at_ms
    labels = n.alerts[0].labels if n.alerts else n.group_labels
    what = alerts[0]["summary"] if alerts else line(n.title)
    short, machine = _short_summary(what), _machine(labels.get("instance", ""), hostname)
    return {
        "kind": kind,
        "severity": n.severity,
        "title": line(n.title),
        "what": what,
        "short": short,
        "machine": machine,
        "machine_named": _contains_machine(short, machine),
        "model": (model := line(_model(n))),
        "model_named": model.lower() in short.lower(),
        "engine": line(labels.get("target", "")),
        "gpu": line(_gpu(labels)),
        "incident": n.incident,
        "numbers": _numbers(n),
        "reason": n.reason.value,
        "answerable": kind in ("firing", "unknown") and n.state == "TRIGGERED" and n.incident > 0,
        "owned": n.state == "ACKED" and kind in ("firing", "unknown"),
        "times": n.times_in_24h if n.times_in_24h > 1 and kind in ("firing", "unknown") else 0,
        "since": moment(began_ms, zone),
        "until": moment(n.at_ms, zone),
        "lasted": elapsed_text(n.at_ms - began_ms),
        "age": _age((n.at_ms if now_ms is None else now_ms) - began_ms),
        "unanswered": [(line(who), clock(at, n.at_ms, zone)) for who, at in n.unanswered],
        "fired": clock(n.opened_at_ms, n.at_ms, zone),
        "ended": clock(n.at_ms, n.at_ms, zone),
        "alerts": shown,
        "others_firing": max(len(alerts) - 1, 0) + n.truncated_alerts,
        "more": len(alerts) - len(shown) + n.truncated_alerts,
        "actor": line(n.actor),
        "note": clean(_note(n)),
        "others": [line(other) for other in n.others],
        "next_at": "" if n.next_at_ms is None else moment(n.next_at_ms, zone),
        "next_clock": "" if n.next_at_ms is None else clock(n.next_at_ms, n.at_ms, zone),
        "next_to": [line(other) for other in n.next_to],
        "not_recorded": n.not_recorded,
        "drill": n.drill,
        "link": link(n.external_url),
        "rows": [],
        "items": [],
        **_evidence(n, zone, shown[0]["value"] if shown else ""),
    }


def _evidence(n: Notification, zone: tzinfo, value: str) -> TemplateContext:
    """What was known when it fired; of what is over, the chart alone."""
    known = n.evidence or Evidence()
    over = n.status == "resolved" or n.reason is Reason.GIVEN_UP
    fired_ms = n.alerts[0].starts_at_ms if n.alerts else n.opened_at_ms
    numbers = () if over or n.counts else known.numbers
    return {
        "value": "" if n.counts else known.value or value,
        "limit": known.limit,
        "numbers_then": [(line(name), line(text)) for name, text in numbers],
        "fired_clock": clock(fired_ms, n.at_ms, zone) if numbers else "",
        "chart": chart_id(n),
        "chart_from": clock(known.chart_from_ms, n.at_ms, zone) if known.chart else "",
        "chart_until": clock(known.chart_until_ms, n.at_ms, zone) if known.chart else "",
        "lowest": known.lowest,
        "highest": known.highest,
    }


def chart_id(n: Notification) -> str:
    """By which the page names the chart that a mail brings along; "" where there is none."""
    chart = n.evidence.chart if n.evidence else b""
    return f"chart-{crc32(chart):08x}@tocsin.invalid" if chart else ""


def _runbook_is_behind(n: Notification) -> bool:
    """Whether the page of the link shows the runbook of these alerts: it has that of the worst, and
    only our own, which nobody reads from elsewhere without a token."""
    urls = {alert.annotations.get("runbook_url", "") for alert in n.alerts}
    return len(urls) == 1 and urls.pop().startswith(OWN_RUNBOOKS)


def _numbers(n: Notification) -> str:
    """`#42`, or the first of many."""
    numbers = (n.incident,) if n.incident else n.incidents
    more = ", …" if len(numbers) > _MOST_NUMBERS else ""
    return ", ".join(f"#{number}" for number in numbers[:_MOST_NUMBERS]) + more


def _short_summary(what: str) -> str:
    """For a subject: without the tails of UUIDs, and short enough that the number follows it."""
    line = _UUID.sub(r"\1…", " ".join(what.split())).rstrip(".。")
    return line if len(line) <= _MAX_SUBJECT else line[: _MAX_SUBJECT - 1] + "…"


def _kind(n: Notification) -> str:
    """How it stands, which is what colour and first words say."""
    otherwise = "resolved" if n.status == "resolved" else "firing"
    return _KIND_BY_REASON.get(n.reason, otherwise)


def _note(n: Notification) -> str:
    over = n.reason in (Reason.RESOLVED, Reason.FIRED_AND_RESOLVED, Reason.UNWATCHED)
    return "" if over and n.note.startswith(_CLEAR_NOTE) else n.note


def _model(n: Notification) -> str:
    """A rule may tell it in an annotation where its series have none: an engine that is down."""
    if not n.alerts:
        return n.group_labels.get("model_name", "")
    first = n.alerts[0]
    return first.labels.get("model_name", "") or first.annotations.get("model_name", "")


def _gpu(labels: Mapping[str, str]) -> str:
    number, model = labels.get("gpu", ""), labels.get("modelName", "")
    return f"{number} ({model})" if number and model else number


def _machine(instance: str, hostname: str) -> str:
    """The host of `instance`, which may have a port; this machine where it names loopback."""
    host = instance
    if "://" not in instance and instance.count(":") <= 1 or "]" in instance:
        host = instance.rpartition("]")[0].lstrip("[") or instance.partition(":")[0]
    return line(hostname if canonical_host(host) in _LOOPBACK_NAMES else host)


def _contains_machine(text: str, machine: str) -> bool:
    """Whether the text has this machine's name as a whole: gpu-1 is not gpu-12 or gpu-1.lab, nor
    what a cut text may have meant."""
    before, after = r"(?<![A-Za-z0-9_.-])", r"(?![A-Za-z0-9_…-]|\.[A-Za-z0-9_])"
    if ":" in machine:  # an IPv6 address
        before, after = r"(?<![0-9A-Fa-f:.])", r"(?![0-9A-Fa-f:…])"
    return re.search(before + re.escape(machine) + after, text) is not None


def _distinct_alerts(n: Notification, zone: tzinfo, failed: str) -> Iterator[TemplateContext]:
    """The alerts as they are shown; the tiers of one symptom, which say the same, are one."""
    seen: set[tuple[Any, ...]] = set()
    for alert in n.alerts:
        shown = _alert(alert, n, zone, failed)
        same = (shown["resolved"], shown["summary"], tuple(sorted(_identity(alert).items())))
        if same not in seen:
            seen.add(same)
            yield shown


def _alert(alert: NotifiedAlert, n: Notification, zone: tzinfo, failed: str) -> TemplateContext:
    notes = absolute_links(alert.annotations, n.external_url)
    until_ms = n.at_ms if alert.ends_at_ms is None else alert.ends_at_ms
    since_ms = alert.starts_at_ms if alert.active_at_ms is None else alert.active_at_ms
    summary, rest = _summary_and_rest(notes, alert.labels.get("alertname", ""), failed)
    hidden = _SHOWN_ELSEWHERE if _identity(n.alerts[0]) == _identity(alert) else {"alertname"}
    labels = [f"{k}={v}" for k, v in sorted(_identity(alert).items()) if k not in hidden]
    labels = [label for label in labels if label not in _OWN_JOB_LABELS]
    return {
        "resolved": alert.status == "resolved",
        "name": line(alert.labels.get("alertname", "")),
        "summary": line(summary),
        "description": clean(rest),
        "runbook": link(notes.get("runbook_url", "")),
        "dashboard": link(notes.get("dashboard_url", "")),
        "value": "" if n.reason is Reason.TEST else _value(alert.value),
        "since": moment(since_ms, zone),
        "lasted": elapsed_text(until_ms - since_ms),
        "labels": line(", ".join(labels)),
    }


def _identity(alert: NotifiedAlert) -> Mapping[str, str]:
    return {name: value for name, value in alert.labels.items() if name != "severity"}


def _summary_and_rest(notes: Mapping[str, str], name: str, failed: str) -> tuple[str, str]:
    """What it is in a line, and what else is said: the error of a template, too."""
    texts = annotation_texts(notes)
    if not texts:
        return name, ""
    if texts[0].startswith(EXPANSION_FAILED):
        return name + failed, "\n".join(texts)
    is_summary = texts[0] == notes.get("summary", "").strip()
    first, _, rest = (texts[0], "", "") if is_summary else texts[0].partition("\n")
    return first, "\n".join(text for text in (rest.strip(), *texts[1:]) if text)


def moment(ms: int, zone: tzinfo) -> str:
    utc = datetime.fromtimestamp(ms // 1000, UTC)
    local = utc.astimezone(zone)
    if local.utcoffset() == utc.utcoffset():
        return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    return f"{local:%Y-%m-%d %H:%M:%S %z} ({utc:%H:%M:%S} UTC)"


def clock(ms: int, today_ms: int, zone: tzinfo) -> str:
    """`10:02`, with the day when it is another one than that of `today_ms`."""
    at, today = (datetime.fromtimestamp(time_ms // 1000, zone) for time_ms in (ms, today_ms))
    return f"{at:%H:%M}" if at.date() == today.date() else f"{at:%Y-%m-%d %H:%M}"


def _age(ms: int) -> str:
    """Nothing where it says nothing."""
    return elapsed_text(ms) if ms >= 1000 else ""


def _value(value: float) -> str:
    """Of what is down or does not come the value is 0, and the words say that."""
    return "" if value == 0 else number_text(value)


def clean(text: str) -> str:
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in text[: _MAX_TEXT + 1])
    return kept if len(kept) <= _MAX_TEXT else kept[: _MAX_TEXT - 1] + "…"


def line(text: str) -> str:
    return " ".join(clean(text).split())


def link(url: str) -> str:
    """`url` in the characters that a URL has; "" for one that some service would refuse, with the
    whole message. An `@` behind the host could call somebody."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    is_host = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc)
    if not is_host or not url.isprintable() or " " in url:
        return ""
    behind = urlunsplit(("", "", parts.path, parts.query, parts.fragment))
    written = f"{parts.scheme}://{parts.netloc}{quote(behind, safe=_KEPT_IN_URL)}"
    return written if len(written) <= _MOST_URL else ""
