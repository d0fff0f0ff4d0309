"""What the annotations of an alert say of it, and links in them to the agent itself."""

from collections.abc import Mapping

EXPANSION_FAILED = "<error expanding template: "
"""How the text begins that stands for a template that cannot be expanded."""

DEFAULT_AGENT_URL = "http://127.0.0.1:4911/"
OWN_RUNBOOKS = f"{DEFAULT_AGENT_URL}runbooks/"
_TEXTS = ("summary", "description", "message")


def annotation_texts(annotations: Mapping[str, str]) -> list[str]:
    """Those that are there, the one for a headline first: many rules have no summary. One whose
    template failed tells least, and comes last."""
    texts = (annotations.get(name, "").strip() for name in _TEXTS)
    return sorted(filter(None, texts), key=lambda text: text.startswith(EXPANSION_FAILED))


def absolute_links(annotations: Mapping[str, str], external_url: str) -> dict[str, str]:
    """The annotations, with links to DEFAULT_AGENT_URL made links below `external_url`.

    A rule file has to name some address, and ours name the default one: whoever reads a message
    elsewhere cannot follow that. Without `external_url` nothing changes.
    """
    base = f"{external_url.rstrip('/')}/" if external_url else DEFAULT_AGENT_URL
    return {
        name: base + text.removeprefix(DEFAULT_AGENT_URL)
        if text.startswith(DEFAULT_AGENT_URL)
        else text
        for name, text in annotations.items()
    }
