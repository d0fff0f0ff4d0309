import pytest

from tocsin_alerting.promql.parser.parser import parse
from tocsin_alerting.promql.parser.signatures import ValueType
from tocsin_alerting.promql.parser.types import type_of


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("1", ValueType.SCALAR),
        ("1m + step()", ValueType.SCALAR),
        ("-(1 + 2)", ValueType.SCALAR),
        ("scalar(a) * 2", ValueType.SCALAR),
        ("'a'", ValueType.STRING),
        ("('a')", ValueType.STRING),
        ("a", ValueType.VECTOR),
        ("2 * a", ValueType.VECTOR),
        ("-sum(a)", ValueType.VECTOR),
        ("a[5m]", ValueType.MATRIX),
        ("(a + b)[5m:]", ValueType.MATRIX),
    ],
)
def test_every_expression_has_a_type(query: str, kind: ValueType) -> None:
    assert type_of(parse(query)) is kind


def test_types_are_documented_in_the_words_of_users() -> None:
    assert [kind.documented for kind in ValueType] == [
        "scalar", "string", "instant vector", "range vector",
    ]  # fmt: skip
