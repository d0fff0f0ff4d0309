"""Turns of phrase that no operator greps for, and what to write instead."""

import re

INSTEAD = {
    r"anew": "again, or: restarts",
    r"so (long|many|often) (until|a|at most)": "name the quantity",
    r"so long until": "how far back from",
    r"whoever": "anyone who",
    r"of (ours|yours|theirs)": "our, your, their",
    r"(is|are|was|were|be|been) told": "is notified, is reported, is unknown",
    r"as of then": "from then on",
    r"went out of": "beyond",
    r"hush(es|ed)?": "inhibits",
    r"(is|are|was|were) not heard": "is not received",
    r"(is|are|was|were) not taken": "was rejected",
    r"says more": "see",
    r"turns again": "recovered",
    r"there is nobody": "nobody",
    r"(is|are|was|were) said": "is logged, is shown, is reported",
    r"that we know": "known",
    r"what came of": "the result of",
}
_BANNED = re.compile("|".join(rf"\b{pattern}\b" for pattern in INSTEAD), re.IGNORECASE)


def not_plain(text: str) -> list[str]:
    """The turns of `text` that INSTEAD has something better for, in small letters."""
    return [match[0].lower() for match in _BANNED.finditer(" ".join(text.split()))]
