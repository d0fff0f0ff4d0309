"""Types, meanings and documentation name the same functions."""

import re
from pathlib import Path

from tocsin_alerting.promql.functions.table import FUNCTIONS
from tocsin_alerting.promql.parser.signatures import FUNCTIONS as SIGNATURES
from tocsin_alerting.promql.parser.signatures import Signature, ValueType

PAGE = Path(__file__).parents[3] / "docs" / "promql.md"
ROW = re.compile(r"\| `(\w+\(.*?\))` \| (.+?) \| (\d?) ?\|")
WORDS = {
    ValueType.VECTOR: "vector",
    ValueType.MATRIX: "range",
    ValueType.SCALAR: "number",
    ValueType.STRING: "text",
}


def usage(name: str, found: Signature) -> str:
    """As the page shows it: `round(vector, [number])`, `label_join(vector, …, [text …])`."""
    words = [WORDS[one] for one in found.args]
    if found.variadic:
        words[-1] = f"[{words[-1]}]" if found.variadic == 1 else f"[{words[-1]} …]"
    return f"{name}({', '.join(words)})"


def test_every_function_that_parses_has_a_meaning() -> None:
    assert list(FUNCTIONS) == list(SIGNATURES)


def test_every_function_is_documented_with_its_arguments() -> None:
    rows = [found.groups() for found in map(ROW.fullmatch, PAGE.read_text().splitlines()) if found]
    assert [(call, only) for call, _, only in rows] == [
        (usage(name, one), str(one.only or "")) for name, one in SIGNATURES.items()
    ]
