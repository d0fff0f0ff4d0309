"""Each line of the tables of answers in docs/channels.md, by a real receiver that gives it."""

import re
from pathlib import Path

import pytest

from support.authority import Authority
from support.channel_contract import all_contracts, outcome_word

DOCS = Path(__file__).parents[3] / "docs" / "channels.md"
# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
ROWS: list[tuple[str, str, str]] = re.findall(
    r"^\| (\w+): (.*?) \| (done|later|refused|never) \|$", DOCS.read_text(), re.M
)
CONTRACTS = all_contracts()


@pytest.mark.parametrize("kind", CONTRACTS)
def test_the_page_and_the_contract_have_the_same_answers(kind: str) -> None:
    assert [answer for of, answer, _ in ROWS if of == kind] == list(CONTRACTS[kind].answers)


def test_the_page_tells_of_no_other_kind() -> None:
    assert {kind for kind, _, _ in ROWS} <= set(CONTRACTS)


@pytest.mark.parametrize(("kind", "answer", "word"), ROWS)
async def test_an_answer_means_what_the_page_says(
    kind: str, answer: str, word: str, tmp_path: Path
) -> None:
    contract = CONTRACTS[kind]
    outcomes = await contract.answers[answer](contract, Authority(tmp_path))
    assert {outcome_word(one) for one in outcomes} == {word}, outcomes
