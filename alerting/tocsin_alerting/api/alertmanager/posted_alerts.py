"""What `POST /api/v2/alerts` carries, checked as Alertmanager checks it."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tocsin_alerting.api.alertmanager.endpoint import Refused
from tocsin_alerting.api.alertmanager.go_json import decoded, time_ms, wrong_type
from tocsin_alerting.incidents.external_alerts import EXTERNAL, ExternalAlert
from tocsin_alerting.strconv import quote
from tocsin_exporter.snapshot import Labels

ALERTS = "alerts"
RESOLVE_TIMEOUT_MS = 5 * 60_000
MAX_POSTED = 10_000  # alerts in a request
MAX_ALERT_BYTES = 64 << 10  # of its labels and annotations together
MAX_LABEL_BYTES = 4 << 10  # a fingerprint is made of each of them
MAX_PAIRS = 1_000  # labels of an alert, or annotations
MAX_CONTAINERS, MAX_ELEMENTS = 100_000, 500_000  # to decode more keeps the loop for too long
SLICE_ALERTS = 200  # some milliseconds
SLICE_BYTES = 50_000


@dataclass(slots=True)
class Posted:
    """What may be taken, and why the rest may not."""

    alerts: list[ExternalAlert] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a body came, from the address `client`; `origin` "": each alert's generator has one."""

    client: str
    now_ms: int
    resolve_timeout_ms: int = RESOLVE_TIMEOUT_MS
    origin: str = ""


def read_alerts(body: bytes, arrival: Arrival) -> Generator[None, None, Posted]:
    """The alerts of a body, in slices. Raises Refused where Alertmanager refuses all of it."""
    if not body.strip():
        raise Refused(422, "alerts in body is required", 602)
    items = decoded_alerts(body)
    if items is None:
        return Posted()
    if not isinstance(items, list):
        raise wrong_type(items, "value of type models.PostableAlerts", ALERTS)
    return (yield from read_items(items, arrival))


def read_items(items: Sequence[Any], arrival: Arrival) -> Generator[None, None, Posted]:
    """The alerts, in slices. Raises Refused as `read_alerts`."""
    if len(items) > MAX_POSTED:
        raise _too_many()
    posted, fields = Posted(), list[_Fields]()
    for number, item in enumerate(items):
        fields.append(_fields(number, item))
        if len(fields) % SLICE_ALERTS == 0:
            yield
    cost = 0
    for each in fields:
        try:
            alert = _alert(each, arrival)
            posted.alerts.append(alert)
            cost += alert.size_bytes + len(alert.fingerprint)  # which is made here
        except ValueError as error:
            posted.errors.append(str(error))
        cost += SLICE_BYTES // SLICE_ALERTS
        if cost > SLICE_BYTES:
            cost = 0
            yield
    return posted


@dataclass(frozen=True, slots=True)
class _Fields:
    """One alert of the body; None is a time that was not given."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at_ms: int | None
    ends_at_ms: int | None
    generator_url: str
    too_many: bool = False  # labels or annotations: they are left out


def decoded_alerts(body: bytes) -> Any:
    """The JSON of a body. Raises Refused for none, and for one that would take too long."""
    containers = body.count(b"[") + body.count(b"{")
    if containers > MAX_CONTAINERS or body.count(b",") > MAX_ELEMENTS:
        raise _too_many()
    return decoded(body, ALERTS)


def _fields(number: int, item: object) -> _Fields:
    """Raises Refused: what is of another shape is no alert."""
    if item is not None and not isinstance(item, dict):
        raise wrong_type(item, "value of type models.PostableAlert", ALERTS)
    given = item or {}
    if given.get("labels") is None:
        raise Refused(422, f"{number}.labels in body is required", 602)
    url = given.get("generatorURL") or ""
    if not isinstance(url, str):
        raise wrong_type(url, "struct field .generatorURL of type strfmt.URI", ALERTS)
    if url and not _is_uri(url):
        why = f"{number}.generatorURL in body must be of type uri: {quote(url[:200])}"
        raise Refused(422, why, 601)
    labels, annotations = given["labels"], given.get("annotations") or {}
    return _Fields(
        _pairs(labels, "labels"),
        _pairs(annotations, "annotations"),
        time_ms(given.get("startsAt"), ".startsAt", ALERTS),
        time_ms(given.get("endsAt"), ".endsAt", ALERTS),
        url,
        max(len(labels), len(annotations)) > MAX_PAIRS,
    )


def _pairs(given: object, name: str) -> Mapping[str, str]:
    if not isinstance(given, dict):
        raise wrong_type(given, f"struct field .{name} of type models.LabelSet", ALERTS)
    if len(given) > MAX_PAIRS:
        return {}
    for value in given.values():
        if value is not None and not isinstance(value, str):
            raise wrong_type(value, f"struct field .{name} of type string", ALERTS)
    return {key: value or "" for key, value in given.items()}


def _is_uri(url: str) -> bool:
    try:
        return bool(urlsplit(url).scheme) or url.startswith("/")
    except ValueError:
        return False


def _alert(given: _Fields, arrival: Arrival) -> ExternalAlert:
    """With Alertmanager's defaults. Raises ValueError for what it does not take."""
    if given.too_many:
        raise ValueError(f"an alert has more than {MAX_PAIRS} labels or annotations")
    labels = tuple(sorted((name, value) for name, value in given.labels.items() if value))
    annotations = tuple(sorted(given.annotations.items()))
    starts, ends, now_ms = given.starts_at_ms, given.ends_at_ms, arrival.now_ms
    started_ms = starts if starts is not None else ends if ends is not None else now_ms
    ends_ms = now_ms + arrival.resolve_timeout_ms if ends is None else ends
    if ends_ms < started_ms:
        raise ValueError("start time must be before end time")
    _check_names(labels, "invalid label set")
    if not labels:
        raise ValueError("at least one label pair required")
    _check_names(annotations, "invalid annotations")
    _check_labels(labels)  # first: making an alert signs all of its labels
    alert = ExternalAlert(
        origin=arrival.origin or origin_of(given.generator_url, arrival.client),
        labels=labels,
        annotations=annotations,
        starts_at_ms=started_ms,
        ends_at_ms=ends_ms,
        updated_at_ms=now_ms,
        times_out=ends is None,
        generator_url=given.generator_url,
        client=arrival.client,
    )
    if alert.size_bytes > MAX_ALERT_BYTES:
        most = f"{MAX_ALERT_BYTES >> 10} KiB"
        raise ValueError(f"alert {_short(labels)} is longer than {most}; shorten its annotations")
    return alert


def _check_labels(labels: Labels) -> None:
    if sum(len(name) + len(value) for name, value in labels) > MAX_LABEL_BYTES:
        most = f"{MAX_LABEL_BYTES >> 10} KiB"
        raise ValueError(f"the labels of alert {_short(labels)} are longer than {most}")


def _check_names(pairs: Labels, what: str) -> None:
    """As Alertmanager since 0.27: any text is a name, but for none."""
    for name, _ in pairs:
        if not name:
            raise ValueError(f"{what}: invalid name {quote(name)}")


def _short(labels: Labels) -> str:
    return quote(dict(labels).get("alertname", "")[:100])


def origin_of(generator_url: str, client: str) -> str:
    """A Prometheus names itself in its generatorURL; who names none is known by its address."""
    parts = urlsplit(generator_url)
    host = parts.netloc.rpartition("@")[2]
    return f"{EXTERNAL}{parts.scheme}://{host}" if host and len(host) < 256 else EXTERNAL + client


def _too_many() -> Refused:
    why = f"more than {MAX_POSTED} alerts in one request, or too many parts; send several"
    return Refused(413, why, 413)
