"""A series's labels as a sender wrote them, checked as Prometheus 3 checks them."""

from collections import Counter
from collections.abc import Sequence

from tocsin_alerting.tsdb.target_labels import METRIC_NAME
from tocsin_exporter.snapshot import Labels

LabelPairs = Sequence[tuple[bytes, bytes]]
_SHOWN = 300  # characters


class InvalidLabels(ValueError):
    """A series that no Prometheus would keep; the others of its request are not concerned."""


def validated_labels(pairs: LabelPairs) -> Labels:
    """The labels, sorted by name, without empty values. Raises BadLabels.

    Names may be any UTF-8, as in Prometheus 3 (model.UTF8Validation); `__name__` must be there.
    """
    try:
        decoded = [(name.decode(), value.decode()) for name, value in pairs]
    except UnicodeDecodeError as error:
        text = error.object[:_SHOWN].decode("latin-1").encode("unicode_escape").decode()
        raise InvalidLabels(f'the label text "{text}" is not UTF-8') from None
    labels = dict(decoded)
    if len(labels) < len(decoded):
        twice, _ = Counter(name for name, _ in decoded).most_common(1)[0]
        raise InvalidLabels(f'label "{twice[:_SHOWN]}" is there twice')
    if "" in labels:
        raise InvalidLabels("a label has no name")
    if not labels.get(METRIC_NAME):
        raise InvalidLabels(f"there is no {METRIC_NAME}")
    return tuple(sorted((name, value) for name, value in decoded if value))


def describe_series(pairs: LabelPairs) -> str:
    """A series for people, however broken it is: at most some hundred characters of it."""
    texts = [(_text(name), _text(value)) for name, value in pairs]
    name = next((value for label, value in texts if label == METRIC_NAME), "")
    inside = ",".join(f'{label}="{value}"' for label, value in texts if label != METRIC_NAME)
    whole = f"{name}{{{inside}}}"
    return whole if len(whole) <= _SHOWN else f"{whole[:_SHOWN]}..."


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace").encode("unicode_escape").decode()
