"""YAML with places: what is read, where it stands, and what is refused."""

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_alerting.yaml_document import (
    MAX_BYTES,
    InvalidDocument,
    did_you_mean,
    parse,
    read_text,
)

BLOCKS = """\
folded: >-
   foo
   bar(x)

   == 3
literal: |
    sum(up)

      / foo
double: "quoted text"
single: 'it''s'
plain: one
  two   three
items:
  - {a: 1}
"""


def told(text: str) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        parse(text, "f")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-7", -7), ("0o17", 15), ("0x1F", 31), ("1.5", 1.5), ("1e3", 1000.0),
        (".inf", math.inf), ("true", True), ("False", False), ("null", None), ("~", None),
        ("no", "no"), ("on", "on"), ("1:30", "1:30"), ("2026-01-31", "2026-01-31"),
        ('"1"', "1"), ("'true'", "true"), ("", None), ("1_000", "1_000"),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert parse(f"x: {text}", "f").data == {"x": value}


@pytest.mark.parametrize(
    ("key", "word", "place"),
    [
        ("folded", "foo", (2, 4)),
        ("folded", "bar", (3, 4)),
        ("folded", "3", (5, 7)),
        ("literal", "sum", (7, 5)),
        ("literal", "foo", (9, 9)),
        ("double", "text", (10, 17)),
        ("single", "it", (11, 10)),
        ("plain", "two", (13, 3)),
        ("plain", "three", (13, 9)),
    ],
)
def test_a_character_of_any_scalar_is_found(key: str, word: str, place: tuple[int, int]) -> None:
    document = parse(BLOCKS, "f")
    text = document.data[key]
    assert document.text_position((key,), text.index(word)) == place


def test_the_end_of_a_scalar_is_one_past_its_last_character() -> None:
    document = parse(BLOCKS, "f")
    assert document.text_position(("literal",), len(document.data["literal"])) == (9, 12)
    assert document.text_position(("plain",), 99) == (13, 14)
    assert parse("x: ''", "f").text_position(("x",), 0) == (1, 4)


def test_a_text_with_escapes_gives_its_start() -> None:
    document = parse('x: "a\\tb\\u0041c"', "f")
    assert document.text_position(("x",), 4) == (1, 4)


@given(st.lists(st.sampled_from(["ab", "c(d)", "=="]), min_size=1, max_size=6), st.data())
def test_each_inked_character_of_a_block_is_found(words: list[str], data: st.DataObject) -> None:
    style = data.draw(st.sampled_from(["|", ">", "|-", ">-"]))
    source = f"x: {style}\n" + "".join(f"  {word}\n" for word in words)
    document = parse(source, "f")
    text = document.data["x"]
    offset = data.draw(st.integers(0, len(text) - 1))
    if not text[offset].isspace():
        line, column = document.text_position(("x",), offset)
        assert source.split("\n")[line - 1][column - 1] == text[offset]


def test_places_of_values_and_keys() -> None:
    document = parse(BLOCKS, "f")
    assert document.position(("items", 0, "a")) == (15, 9)
    assert document.position(("items", 0, "a"), key=True) == (15, 6)
    assert document.position(("items", 7)) == document.position(("items",)) == (15, 3)
    assert parse("", "f").position(("x",)) == (1, 1)
    assert str(document.problem(("items", 0), "wrong")) == "f:15:5: wrong"


def test_the_text_of_a_scalar_is_as_written() -> None:
    document = parse("a: 0o17\nb: ~\nc: [1]\n", "f")
    assert [document.text((key,)) for key in "abcd"] == ["0o17", "~", None, None]


def test_merged_keys_and_aliases() -> None:
    text = "base: &b {x: 1, y: 1}\none:\n  <<: *b\n  y: 2\ntwo: *b\n"
    assert parse(text, "f").data == {
        "base": {"x": 1, "y": 1},
        "one": {"x": 1, "y": 2},
        "two": {"x": 1, "y": 1},
    }


def test_what_is_merged_keeps_its_place_and_its_text() -> None:
    text = (
        "a: &a {x: 0o17, y: 1}\nb: &b {x: 2, z: 3}\nc:\n  y: 9\n  <<: [*a, *b]\nd: {<<: *b, x: 5}\n"
    )
    document = parse(text, "f")
    assert document.data["c"] == {"x": 15, "y": 9, "z": 3}
    assert document.data["d"] == {"x": 5, "z": 3}
    assert document.text(("c", "x")) == "0o17"
    assert document.position(("c", "x")) == (1, 11)
    assert document.position(("c", "z"), key=True) == (2, 14)
    assert document.position(("d", "x")) == (6, 16)


def test_merges_nest_at_every_level() -> None:
    text = "<<: {a: {<<: {<<: {x: 1}, y: 2}, z: 3}}\nl: [{<<: [{p: 1}, {p: 2, q: 2}]}]\n"
    assert parse(text, "f").data == {"a": {"x": 1, "y": 2, "z": 3}, "l": [{"p": 1, "q": 2}]}


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: {<<: x}", "f:1:9"), ("a: {<<: ~}", "f:1:9"), ("a: {<<: [{}, [b]]}", "f:1:14")],
)
def test_only_mappings_can_be_merged(text: str, place: str) -> None:
    with pytest.raises(InvalidDocument, match=f"{place}: `<<` takes a mapping"):
        parse(text, "f")


def test_two_merge_keys_are_one_too_many_and_a_quoted_one_is_a_key() -> None:
    with pytest.raises(InvalidDocument, match='key "<<" is defined twice'):
        parse("a: {<<: {b: 1}, <<: {c: 1}}", "f")
    assert parse("a: {'<<': 1}", "f").data == {"a": {"<<": 1}}


def test_merges_that_swell_are_refused() -> None:
    lines = ["m0: &m0 {k0: 0}"]
    lines += [f"m{n}: &m{n} {{<<: *m{n - 1}, k{n}: 0}}" for n in range(1, 1000)]
    with pytest.raises(InvalidDocument, match="brings more than 100000 keys"):
        parse("\n".join(lines), "f")


def test_only_the_first_document_is_read() -> None:
    assert parse("a: 1\n---\nb: [\n", "f").data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a:\n\t- b", "f:2:1: not YAML: "),
        ("a: [1", "f:2:1: not YAML: "),
        ("a: 'x", "f:1:6: not YAML: "),
        ("a: *x", "f:1:4: not YAML: "),
        (
            "a: 1\na: 2\nb: {c: 1, c: 1}",
            'f:2:1: key "a" is defined twice, first in line 1; remove one',
        ),
        ("ok: 1\na: b\0", "f:2:5: not YAML: unacceptable character #x0000"),
        ("[" * 100_000, "f:1:101: nested more than 100 deep; flatten it"),
        ("\n".join(" " * depth + "- " for depth in range(3000)), "f:101:101: nested more than"),
        ("a: &a [*a]", "f:1:4: this anchor contains an alias of itself"),
        ("? [a]\n: 1", "f:1:3: a key must be text, not a list or a mapping"),
        ("a: \ud800", "f:1:1: not text in UTF-8"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(text: str, wanted: str) -> None:
    assert told(text)[0].startswith(wanted)


def test_a_tab_is_named() -> None:
    assert told("a:\n\t- b")[0].endswith("; indent with spaces, not with tabs")
    assert "tab" not in told("a: [1")[0]


def test_both_repeated_keys_are_told() -> None:
    assert len(told("a: 1\na: 2\nb: {c: 1, c: 1}")) == 2


def test_aliases_cannot_swell() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for level in range(1, 40):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    data = parse("\n".join(lines), "f").data
    assert len(data) == 40
    assert data["a39"][0] is data["a38"]


@given(st.text(max_size=60))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    try:
        parse(text, "f")
    except InvalidDocument as error:
        assert error.problems


def test_a_near_word_is_proposed() -> None:
    assert did_you_mean("intervall", ["interval", "rules"]) == '; did you mean "interval"?'
    assert did_you_mean("zzz", ["interval"]) == ""
    assert did_you_mean("interval", ["interval"]) == ""


def test_a_file_is_read_to_a_bound(tmp_path: Path) -> None:
    large = tmp_path / "large.yml"
    large.write_bytes(b"#" * MAX_BYTES + b"\n")
    with pytest.raises(InvalidDocument, match="large.yml:1:1: cannot read this file: more than 16"):
        read_text(str(large))
    with pytest.raises(InvalidDocument, match="more than 16,000,000 bytes; split it"):
        read_text("/dev/zero")
    large.write_bytes(b"#" * MAX_BYTES)
    assert len(read_text(str(large))) == MAX_BYTES
    large.write_bytes(b"a: 1\r\nb: 2\rc: 3\n")
    assert read_text(str(large)) == "a: 1\nb: 2\nc: 3\n"


def test_a_file_whose_name_is_no_utf8_is_to_be_renamed(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.yml"))
    odd.write_text("groups: []\n")
    with pytest.raises(InvalidDocument, match=r"caf\\udce9.yml:1:1: the name of .* rename it"):
        read_text(str(odd))


def test_a_number_that_nothing_could_be_is_text() -> None:
    for digits in ("9" * 5_000, "0x" + "f" * 5_000, "-" + "1" * 5_000):
        assert parse(f"a: {digits}", "f").data == {"a": digits}
    assert parse(f"a: {'9' * 308}", "f").data == {"a": int("9" * 308)}
