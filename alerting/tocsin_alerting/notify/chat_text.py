"""A message as a chat shows it: text made of its parts, in a service's own markup.

What no limit may cut away is the first line, the incident's number and the link that answers it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape as html_escape

from tocsin_alerting.notify.message_parts import MessageParts

_SHORTEST_PARAGRAPH = 40  # what is left of a text that has to be cut; less says nothing


@dataclass(frozen=True, slots=True)
class Markup:
    """How a service writes text: `escape` makes any text literal; `bold` takes what is escaped, and
    `link` a label that is escaped with a URL that is not."""

    escape: Callable[[str], str]
    bold: Callable[[str], str]
    link: Callable[[str, str], str]


PLAIN = Markup(str, str, lambda label, url: f"{label}: {url}")
HTML = Markup(
    html_escape,
    lambda text: f"<b>{text}</b>",
    lambda label, url: f'<a href="{html_escape(url)}">{label}</a>',
)


def chat_text(
    parts: MessageParts,
    markup: Markup,
    limit: int,
    size: Callable[[str], int] = len,
    *,
    subject: bool = True,
) -> str:
    """At most `limit` of what `size` counts. The last details go first; then values are cut, on a
    boundary of characters. Without `subject` it stands elsewhere (in a title)."""
    first = [markup.bold(_escaped(parts.subject, markup, limit // 2, size))] if subject else []
    last = _answer(parts, markup)
    kept: list[str] = []
    for line in _details(parts, markup):
        if size("\n".join((*first, *kept, line, *last))) <= limit:
            kept.append(line)
    text = "\n".join((*first, *kept, *last))
    room = limit - size("\n".join((*first, *last))) - 1
    if not kept and room > _SHORTEST_PARAGRAPH and (said := next(_plain_details(parts), "")):
        text = "\n".join((*first, _escaped(said, markup, room, size), *last))
    return text


def cut(text: str, limit: int, size: Callable[[str], int] = len) -> str:
    """The beginning of `text` of which `size` counts at most `limit`, with "…" where it was cut."""
    if size(text) <= limit:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(text[:middle] + "…") <= limit else (low, middle - 1)
    return text[:low].rstrip() + "…" if size("…") <= limit else ""


def utf8_size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def utf16_size(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _escaped(text: str, markup: Markup, limit: int, size: Callable[[str], int]) -> str:
    """`text` escaped, cut before it is escaped: never within an escape."""
    return markup.escape(cut(text, limit, lambda part: size(markup.escape(part))))


def _details(parts: MessageParts, markup: Markup) -> Iterator[str]:
    for label, value in parts.lines:
        yield markup.escape(f"{label}{parts.colon}") + markup.escape(value)
    for text in _plain_paragraphs(parts):
        yield markup.escape(text)
    for label, url in parts.links:
        yield markup.link(markup.escape(label), url)


def _plain_paragraphs(parts: MessageParts) -> Sequence[str]:
    return [text for text in parts.paragraphs if text]


def _plain_details(parts: MessageParts) -> Iterator[str]:
    yield from (f"{label}{parts.colon}{value}" for label, value in parts.lines)
    yield from _plain_paragraphs(parts)


def _answer(parts: MessageParts, markup: Markup) -> list[str]:
    if not parts.answer_url:
        return []
    return [markup.link(markup.escape(parts.answer_label), parts.answer_url)]
