"""Links in annotations to the agent itself: shown as its readers can follow them."""

from collections.abc import Mapping

DEFAULT_AGENT_URL = "http://127.0.0.1:4911/"


def absolute_links(annotations: Mapping[str, str], external_url: str) -> dict[str, str]:
    """The annotations, with links to DEFAULT_AGENT made links below `external_url`.

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
