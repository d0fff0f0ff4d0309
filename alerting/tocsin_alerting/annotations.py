"""What the annotations of an alert say of it."""

from collections.abc import Mapping

EXPANSION_FAILED = "<error expanding template: "
"""How the text begins that stands for a template that cannot be expanded."""

_TEXTS = ("summary", "description", "message")


def annotation_texts(annotations: Mapping[str, str]) -> list[str]:
    """Those that are there, the one for a headline first: many rules have no summary. One whose
    template failed tells least, and comes last."""
    texts = (annotations.get(name, "").strip() for name in _TEXTS)
    return sorted(filter(None, texts), key=lambda text: text.startswith(EXPANSION_FAILED))
