"""A series's labels as a sender wrote them, checked as Prometheus 3 checks them."""

from collections import Counter
from collections.abc import Sequence

from tocsin_alerting.store.target import NAME
from tocsin_exporter.snapshot import Labels

Pairs = Sequence[tuple[bytes, bytes]]
_SHOWN = 300  # characters


class BadLabels(ValueError):
    """A series that no Prometheus would keep; the others of its request are not concerned."""


def checked(pairs: Pairs) -> Labels:
    """The labels, sorted by name, without empty values. Raises BadLabels.

    Names may be any UTF-8, as in Prometheus 3 (model.UTF8Validation); `__name__` must be there.
    """
    try:
        decoded = [(name.decode(), value.decode()) for name, value in pairs]
    except UnicodeDecodeError as error:
        text = error.object[:_SHOWN].decode("latin-1").encode("unicode_escape").decode()
        raise BadLabels(f'the label text "{text}" is not UTF-8') from None
    labels = dict(decoded)
    if len(labels) < len(decoded):
        twice, _ = Counter(name for name, _ in decoded).most_common(1)[0]
        raise BadLabels(f'label "{twice[:_SHOWN]}" is there twice')
    if "" in labels:
        raise BadLabels("a label has no name")
    if not labels.get(NAME):
        raise BadLabels(f"there is no {NAME}")
    return tuple(sorted((name, value) for name, value in decoded if value))


def shown(pairs: Pairs) -> str:
    """A series for people, however broken it is: at most some hundred characters of it."""
    texts = [(_text(name), _text(value)) for name, value in pairs]
    name = next((value for label, value in texts if label == NAME), "")
    inside = ",".join(f'{label}="{value}"' for label, value in texts if label != NAME)
    whole = f"{name}{{{inside}}}"
    return whole if len(whole) <= _SHOWN else f"{whole[:_SHOWN]}..."


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace").encode("unicode_escape").decode()
