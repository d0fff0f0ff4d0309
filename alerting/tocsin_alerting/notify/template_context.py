"""A notification as the templates see it: times, durations and numbers are text, control
characters are gone, and a link is there only when it is one to http or https."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import urlsplit

from tocsin_alerting.annotations import EXPANSION_FAILED, annotation_texts
from tocsin_alerting.incidents.notification import Notification, NotifiedAlert, Reason
from tocsin_alerting.notify.annotation_links import absolute_links
from tocsin_alerting.settings import elapsed_text, number_text
from tocsin_exporter.engine_access import canonical_host
from tocsin_exporter.targets import SCRAPE_CONFIGS

TemplateContext = Mapping[str, Any]

_MAX_ALERTS = 20
_MAX_TEXT = 4000
_MAX_SUBJECT = 110
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
}
_CLEAR_NOTE = "clear"  # a note that begins so says no more than that it is over


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
        "model": line(_model(n)),
        "engine": line(labels.get("target", "")),
        "gpu": line(_gpu(labels)),
        "incident": n.incident,
        "reason": n.reason.value,
        "answerable": kind in ("firing", "unknown") and n.state == "TRIGGERED",
        "owned": n.state == "ACKED" and kind in ("firing", "unknown"),
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
        "next_to": [line(other) for other in n.next_to],
        "not_recorded": n.not_recorded,
        "link": link(n.external_url),
    }


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
    try:
        usable = urlsplit(url).scheme in ("http", "https") and url.isprintable() and " " not in url
    except ValueError:
        return ""
    return url if usable else ""
