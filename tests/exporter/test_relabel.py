"""Relabelling against what Prometheus says of it; whole targets are in config/test_scraping.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_exporter.relabel import Relabel, anchored, expand, relabelled

NAMES = st.sampled_from("abcd")
LABELS = st.dictionaries(NAMES, st.text("xyz1", min_size=1, max_size=3))


def test_a_hash_is_prometheus_hash() -> None:
    rule = Relabel("hashmod", ("c",), modulus=1000, target_label="d")
    assert relabelled({"c": "baz"}, [rule]) == {"c": "baz", "d": "976"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("$1-$2", "ab-c"),
        ("${1}x", "abx"),
        ("$1x", ""),
        ("$$1", "$1"),
        ("$name", "c"),
        ("$3$nothing.", "."),
        ("a$", "a$"),
    ],
)
def test_a_reference_is_gos(template: str, text: str) -> None:
    assert expand(template, anchored("(ab)(?P<name>c)").match("abc")) == text


def test_a_value_that_becomes_empty_is_no_label() -> None:
    rule = Relabel(source_labels=("a",), regex="(x?).*", target_label="b")
    assert relabelled({"a": "y", "b": "before"}, [rule]) == {"a": "y"}
    assert relabelled({"a": ""}, []) == {}


def test_a_dot_matches_a_line_break() -> None:
    assert relabelled({"a": "x\ny"}, [Relabel("drop", ("a",), regex="x.y")]) is None


@given(LABELS, st.lists(NAMES, max_size=2))
def test_keep_and_drop_are_each_others_opposite(labels: dict[str, str], names: list[str]) -> None:
    rules = [Relabel(action, tuple(names), regex="x.*") for action in ("keep", "drop")]
    kept = [relabelled(labels, [rule]) for rule in rules]
    assert sorted(map(bool, [kept[0] is None, kept[1] is None])) == [False, True]


@given(LABELS)
def test_the_given_labels_are_not_changed(labels: dict[str, str]) -> None:
    before = dict(labels)
    relabelled(labels, [Relabel("labeldrop", regex=".*"), Relabel(target_label="new")])
    assert labels == before
