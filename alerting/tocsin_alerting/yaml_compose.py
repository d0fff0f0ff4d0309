"""YAML's events to nodes, in one pass: with a limit on depth, and repeated keys found on the way.

PyYAML's own composer recurses in C, where a deep document ends the process, and looks up a type
for each scalar that nobody reads. With both taken from it, it does the plain documents, in two
thirds of the time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError

MAX_DEPTH = 100
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Parser: Any = getattr(getattr(yaml, "cyaml", None), "CParser", object)
Node = yaml.Node


class TooDeep(ValueError):
    """More than MAX_DEPTH collections in one another; `mark` is where."""

    def __init__(self, mark: Any) -> None:
        super().__init__(f"nested more than {MAX_DEPTH} deep; flatten it")
        self.mark = mark


@dataclass(slots=True)
class Composed:
    """The first document: `repeating` are the mappings with keys that are no text, or not once;
    `joined` says whether it has an alias or a merge key."""

    root: Node | None = None
    repeating: list[yaml.MappingNode] = field(default_factory=list)
    joined: bool = False


_NOT_FIRST = r"[0-9A-Za-z_=%./;&-]"  # after these, no anchor and no tag begins
_UNUSUAL = re.compile(
    rf"&(?<!{_NOT_FIRST}&)\S"  # an anchor, without which there is no alias
    rf"|!(?<!{_NOT_FIRST}!)(?=[\s,<]|\Z)|%TAG"  # a lone `!`, which the composer forgets
    r"|<<"
)


def compose_plain(text: str) -> Node | None:
    """The root of a document without aliases, merge keys and lone `!`; its keys may repeat. None
    for any other, and for one that is wrong, which `compose` can say."""
    if _Parser is object or _UNUSUAL.search(text):
        return None
    try:
        root: Node | None = _PlainLoader(text).get_single_node()
    except (yaml.YAMLError, UnicodeError, TooDeep):
        return None
    return root


class _PlainLoader(_Parser):  # type: ignore[misc]  # the C extension has no types
    """Its composer with a limit on depth, and without the types of scalars."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def resolve(self, _: type, __: str | None, ___: Any) -> str:
        return ""

    def descend_resolver(self, _: Node | None, __: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooDeep(None)

    def ascend_resolver(self) -> None:
        self._depth -= 1


def compose(text: str) -> Composed:
    """Raises YAMLError, and TooDeep."""
    loader = Loader(text)
    made = Composed()
    try:
        made.root = _Composer(made).root(_events(loader))
    finally:
        loader.dispose()
    return made


def _events(loader: Any) -> Iterator[Any]:
    get = loader.get_event
    while not isinstance(event := get(), yaml.DocumentEndEvent | yaml.StreamEndEvent):
        yield event


class _Composer:
    """`_keys` holds for each open mapping the key that waits for its value."""

    def __init__(self, made: Composed) -> None:
        self._made = made
        self._open: list[Any] = []
        self._keys: list[Node | None] = []
        self._anchors: dict[str, Node] = {}

    def root(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        opened, keys = self._open, self._keys
        node: Node
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                tag = event.tag or ""
                node = yaml.ScalarNode(
                    tag, event.value, event.start_mark, event.end_mark, event.style
                )
                if tag == "" and event.value == "<<" and not event.style:
                    self._made.joined = True
            elif kind in _ENDS:
                self._close(event)
                continue
            elif kind in _STARTS:
                node = _STARTS[kind](event.tag or "", [], event.start_mark, None, event.flow_style)
            elif kind is yaml.AliasEvent:
                node = self._alias(event)
            else:
                continue
            if kind is not yaml.AliasEvent and event.anchor is not None:
                self._anchor(event, node)
            if not opened:
                root = node
            elif keys[-1] is not None:
                opened[-1].value.append((keys[-1], node))
                keys[-1] = None
            elif type(opened[-1]) is yaml.SequenceNode:
                opened[-1].value.append(node)
            else:
                keys[-1] = node
            if kind in _STARTS:
                self._enter(node, event)
        return root

    def _enter(self, node: Node, event: Any) -> None:
        self._open.append(node)
        self._keys.append(None)
        if len(self._open) > MAX_DEPTH:
            raise TooDeep(event.start_mark)

    def _close(self, event: Any) -> None:
        self._keys.pop()
        node = self._open.pop()
        node.end_mark = event.end_mark
        if type(node) is yaml.MappingNode:
            try:
                names = {key.value for key, _ in node.value}
            except TypeError:  # a list or a mapping as a key
                names = set()
            if len(names) != len(node.value):
                self._made.repeating.append(node)

    def _anchor(self, event: Any, node: Node) -> None:
        name = event.anchor
        if name in self._anchors:
            first = self._anchors[name].start_mark
            what = f"found duplicate anchor {name!r}; first occurrence"
            raise ComposerError(what, first, "second occurrence", event.start_mark)
        self._anchors[name] = node

    def _alias(self, event: Any) -> Node:
        self._made.joined = True
        if event.anchor not in self._anchors:
            what = f"found undefined alias {event.anchor!r}"
            raise ComposerError(None, None, what, event.start_mark)
        return self._anchors[event.anchor]


_STARTS: dict[type, Any] = {
    yaml.MappingStartEvent: yaml.MappingNode,
    yaml.SequenceStartEvent: yaml.SequenceNode,
}
_ENDS = frozenset((yaml.MappingEndEvent, yaml.SequenceEndEvent))
