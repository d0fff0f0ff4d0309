"""Markdown as Discord and Mattermost read it.

Whatever stands in a label must arrive as it is: it may neither lay the message out nor call people.
"""

import re

from tocsin_alerting.notify.chat_text import Markup

ZERO_WIDTH_SPACE = "\u200b"
# What means something wherever it stands, and what does at the beginning of a line, or as the
# name of an emoji, an entity or a hashtag. More would be read by whoever sees the text unrendered.
_SPECIAL = re.compile(
    r"[\\`*_{}\[\]<>~|]|:(?=[\w+-]+:)|&(?=#?\w+;)|#(?=[^\W\d])|^[-+#=]", re.MULTILINE
)
_ITEM = re.compile(r"^([0-9]{1,9})([.)])", re.MULTILINE)
_MARGIN = re.compile(r"^[ \t]+", re.MULTILINE)  # four spaces would begin a block of code
_IN_URL = {" ": "%20", "(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "\\": "%5C"}


def escape_markdown(text: str) -> str:
    """`text` so that it shows as it is. A backslash before any of ASCII's punctuation makes it
    literal (CommonMark 0.31, section 2.4); nobody's name follows an `@` directly."""
    escaped = _SPECIAL.sub(r"\\\g<0>", _MARGIN.sub("", text))
    return _ITEM.sub(r"\1\\\2", escaped).replace("@", "@" + ZERO_WIDTH_SPACE)


def markdown_url(url: str) -> str:
    """`url` so that the brackets of a link end where it does."""
    return "".join(_IN_URL.get(char, char) for char in url)


def _bold(text: str) -> str:
    return f"**{text}**" if text.strip() else text


MARKDOWN = Markup(escape_markdown, _bold, lambda label, url: f"[{label}]({markdown_url(url)})")
