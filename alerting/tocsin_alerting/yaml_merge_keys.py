"""YAML's merge keys: `<<` brings the keys of other mappings into its own.

It is done in the nodes, so that what was brought keeps its place in the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

MAX_MERGED = 100_000  # each `<<` may bring all that the one before it brought
_Pair = tuple[yaml.Node, yaml.Node]


@dataclass(frozen=True, slots=True)
class MergeRules:
    """Which of two keys of one name wins.

    A mapping's own, and of several sources the first; or, with `in_order`, the one that stands
    later, as promtool reads files of unit tests. There, a mapping under a key of `distinct` must
    not be given a key twice.
    """

    in_order: bool = False
    distinct: frozenset[str] = frozenset()


OWN_KEYS_WIN = MergeRules()


class MergeError(ValueError):
    """What cannot be merged, and where."""

    def __init__(self, node: yaml.Node, message: str) -> None:
        super().__init__(message)
        self.node = node


def is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and not key.style


def resolve(root: yaml.Node | None, merging: MergeRules) -> None:
    """Replace every merge key below `root` by what it brings. Raises MergeError."""
    if root is not None:
        _Merges(merging).resolve(root, "")


class _Merges:
    def __init__(self, merging: MergeRules) -> None:
        self._merging = merging
        self._done: set[int] = set()
        self._open: set[int] = set()
        self._merged = 0

    def resolve(self, node: yaml.Node, under: str) -> None:
        """`under` is the key that the node stands under."""
        if id(node) in self._open:
            raise MergeError(node, "this anchor contains an alias of itself; write its content out")
        if id(node) in self._done or isinstance(node, yaml.ScalarNode):
            return
        self._open.add(id(node))
        for child in node.value:
            key, value = child if isinstance(child, tuple) else (None, child)
            self.resolve(value, str(key.value) if key is not None else under)
        if isinstance(node, yaml.MappingNode) and any(is_merge(key) for key, _ in node.value):
            node.value = self._merge(node.value, under)
        self._open.remove(id(node))
        self._done.add(id(node))

    def _merge(self, pairs: list[_Pair], under: str) -> list[_Pair]:
        """The later of two pairs of one key wins."""
        if not self._merging.in_order:
            pairs = sorted(pairs, key=lambda pair: not is_merge(pair[0]))
        merged: dict[str, _Pair] = {}
        for key, value in self._brought(pairs):
            name = str(key.value)
            if name in merged and under in self._merging.distinct:
                raise MergeError(key, f'key "{name}" is given twice by `<<`; remove one')
            merged[name] = key, value
        return list(merged.values())

    def _brought(self, pairs: list[_Pair]) -> Iterator[_Pair]:
        for key, value in pairs:
            if not is_merge(key):
                yield key, value
                continue
            for source in reversed(_sources(value)):
                self._merged += len(source.value)
                if self._merged > MAX_MERGED:
                    raise MergeError(value, f"`<<` brings more than {MAX_MERGED} keys; write less")
                yield from source.value


def _sources(value: yaml.Node) -> list[yaml.MappingNode]:
    sources: list[yaml.MappingNode] = []
    for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
        if not isinstance(source, yaml.MappingNode):
            message = "`<<` takes a mapping or a list of mappings; give it an alias of one"
            raise MergeError(source, message)
        sources.append(source)
    return sources
