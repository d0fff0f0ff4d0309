"""The quick way of composing gives what the events give, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.yaml_compose import MAX_DEPTH, Node, TooDeep, compose, compose_plain

_PIECES = (
    *("a: ", "b:\n", "- ", "  ", "\n", "x", "'q'", '"d"', "1", "~", "? ", "|\n  t\n", ">-\n  t\n"),
    *(
        "[",
        "]",
        "{",
        "}",
        ", ",
        "# c\n",
        "! ",
        "!!str ",
        "!t ",
        "a != b",
        "---\n",
        "...\n",
        "%YAML",
    ),
    *("&n ", "*n", "<<: ", "'", '"', ":", "\t", "ü", "\ud800", "\x00", "a && b", "u?a=1&b=2"),
)


def described(node: Node | None) -> object:
    """All that is read of nodes."""
    if node is None:
        return None
    value = node.value
    if isinstance(value, list):
        value = [
            tuple(map(described, one)) if isinstance(one, tuple) else described(one)
            for one in value
        ]
    marks = [(mark.line, mark.column) for mark in (node.start_mark, node.end_mark)]
    style = getattr(node, "style", None)
    told = (style, node.tag == "!") if isinstance(value, str) else ()
    return type(node).__name__, value, marks, told


@given(st.lists(st.sampled_from(_PIECES), max_size=14))
def test_the_quick_way_gives_what_the_events_give(pieces: list[str]) -> None:
    text = "".join(pieces)
    root = compose_plain(text)
    if root is not None:
        composed = compose(text)
        assert not composed.joined
        assert described(root) == described(composed.root)


@pytest.mark.parametrize(
    "text",
    [
        "a: [b, {c: 'd', e: f}]\ng: |\n  h",
        "groups:\n- name: g\n  rules:\n  - {alert: a, expr: 'b != 1 and c', for: 5m}\n",
        "a: https://example.com/?a=1&b=2\nb: x&&y z!\nc: !x 1\nd: !!int '1'\n",
    ],
)
def test_the_usual_document_goes_the_quick_way(text: str) -> None:
    assert described(compose_plain(text)) == described(compose(text).root)


@pytest.mark.parametrize(
    "text",
    [
        "a: &n 1\nb: *n",
        "&n a: 1",
        "[&n a]",
        "'a':&n 1",
        "{a: 1, <<: {b: 1}}",
        "",
        "a: ! 1",
        "[!,a]",
        "!<!> 1",
        "%TAG !e! !\n---\n!e!x 1",
        "a: *n",
        "a: [",
        "a: 1\n---\nb: 1",
        "a: \x00",
        "a: \ud800",
    ],
)
def test_the_rest_goes_by_events(text: str) -> None:
    assert compose_plain(text) is None


def test_depth_is_limited() -> None:
    deep, deeper = ("[" * depth + "]" * depth for depth in (MAX_DEPTH, MAX_DEPTH + 1))
    assert compose_plain(deep) is not None
    assert compose_plain(deeper) is None
    assert compose_plain("- [a]\n" * 2 * MAX_DEPTH) is not None
    assert compose_plain("[" * 100_000) is None
    with pytest.raises(TooDeep):
        compose(deeper)
