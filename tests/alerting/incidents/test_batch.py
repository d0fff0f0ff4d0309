"""A batch that is written in parts is what it would have been in one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.notifications import notification
from support.policies import config
from tocsin_alerting.incidents.batch import Batch
from tocsin_alerting.incidents.hearing import Hearing
from tocsin_alerting.incidents.incident import Source, State
from tocsin_alerting.incidents.ledger import Ledger
from tocsin_alerting.incidents.message import Message

NOW_MS = 1_767_225_600_000
CHANGES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["P0", "P2"]), st.integers(0, 5), st.integers(0, 3)),
    max_size=30,
)


def _batch(changes: list[tuple[bool, str, int, int]]) -> Batch:
    ledger = Ledger(config())
    hearing = Hearing(ledger)
    for fire, severity, target, gpu in changes:
        one = alert("Hot", severity, target=str(target), gpu=str(gpu))
        for _ in hearing.hear([fires(one) if fire else clears(one)], NOW_MS):
            pass
    ledger.note(0, "started", NOW_MS)
    return ledger.take(NOW_MS)


def _parts(batch: Batch, most: int) -> list[Batch]:
    parts = []
    while batch:
        part, batch = batch.split(most)
        parts.append(part)
        assert part, "a part without a row would never end"
    return parts


@settings(max_examples=200, deadline=None)
@given(CHANGES, st.integers(1, 12))
def test_the_parts_are_the_whole_and_an_incident_is_in_one(
    changes: list[tuple[bool, str, int, int]], most: int
) -> None:
    whole, merged = _batch(changes), Batch()
    parts = _parts(_batch(changes), most)
    for part in parts:
        merged.merge(part)
    merged.history.sort(key=lambda entry: entry.seq)
    assert merged == whole
    for name in ("incidents", "timers", "messages"):
        assert sum(len(getattr(part, name)) for part in parts) == len(getattr(whole, name))
    for part in parts:
        numbers = {entry.incident for entry in part.history} - {0}
        assert numbers == part.incidents.keys()
        late = {number for number, _ in part.members} - part.incidents.keys()
        kinds = {one.source for (n, _), one in part.members.items() if n in late}
        assert kinds <= {Source.FIRING}, "only what fires may come after its incident"


def test_the_worst_comes_first_and_what_has_closed_before_it() -> None:
    batch = _batch([(True, "P2", n, 0) for n in range(5)] + [(True, "P0", 5, 0)])
    first, rest = batch.split(2)
    assert [one.severity for one in first.incidents.values()] == ["P0"]
    assert len(rest.incidents) == 5
    number, mild = next(iter(rest.incidents.items()))
    object.__setattr__(mild, "state", State.CLOSED)
    rest.merge(first)
    assert rest.split(1)[0].incidents.keys() == {number}


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(1, 5))
def test_a_message_is_written_whole_when_any_of_its_changes_was(
    moved: list[bool], cut: int
) -> None:
    """Only its state is written when the journal has what it says."""
    early, late = Batch(), Batch()
    for number, one in enumerate(moved):
        message = Message(1, notification(), 1, attempts=number)
        (early if number < cut else late).put_message(message, moved=one)
    early.merge(late)
    assert early.messages[message.key] == message
    assert bool(early.moved) == all(moved)
