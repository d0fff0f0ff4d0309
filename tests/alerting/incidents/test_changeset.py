"""A changeset that is written in parts is what it would have been in one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from support.alert_events import alert, clears, fires
from support.notifications import notification
from support.policies import config
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.correlation import Correlator
from tocsin_alerting.incidents.incident import Condition, IncidentState
from tocsin_alerting.incidents.outbox_message import OutboxMessage
from tocsin_alerting.incidents.working_set import WorkingSet

NOW_MS = 1_767_225_600_000
CHANGES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["P0", "P2"]), st.integers(0, 5), st.integers(0, 3)),
    max_size=30,
)


def _batch(changes: list[tuple[bool, str, int, int]]) -> Changeset:
    working = WorkingSet(config())
    hearing = Correlator(working)
    for fire, severity, target, gpu in changes:
        one = alert("Hot", severity, target=str(target), gpu=str(gpu))
        for _ in hearing.apply([fires(one) if fire else clears(one)], NOW_MS):
            pass
    working.note(0, "started", NOW_MS)
    return working.drain_changes(NOW_MS)


def _parts(changeset: Changeset, most: int) -> list[Changeset]:
    parts = []
    while changeset:
        part, changeset = changeset.split(most)
        parts.append(part)
        assert part, "a part without a row would never end"
    return parts


@settings(max_examples=200, deadline=None)
@given(CHANGES, st.integers(1, 12))
def test_the_parts_are_the_whole_and_an_incident_is_in_one(
    changes: list[tuple[bool, str, int, int]], most: int
) -> None:
    whole, merged = _batch(changes), Changeset()
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
        assert kinds <= {Condition.FIRING}, "only what fires may come after its incident"


def test_the_worst_comes_first_and_what_has_closed_before_it() -> None:
    changeset = _batch([(True, "P2", n, 0) for n in range(5)] + [(True, "P0", 5, 0)])
    first, rest = changeset.split(2)
    assert [one.severity for one in first.incidents.values()] == ["P0"]
    assert len(rest.incidents) == 5
    number, mild = next(iter(rest.incidents.items()))
    object.__setattr__(mild, "state", IncidentState.CLOSED)
    rest.merge(first)
    assert rest.split(1)[0].incidents.keys() == {number}


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(1, 5))
def test_a_message_is_written_whole_when_any_of_its_changes_was(
    moved: list[bool], cut: int
) -> None:
    """Only its state is written when the journal has what it says."""
    early, late = Changeset(), Changeset()
    for number, one in enumerate(moved):
        message = OutboxMessage(1, notification(), 1, attempts=number)
        (early if number < cut else late).put_message(message, moved=one)
    early.merge(late)
    assert early.messages[message.key] == message
    assert bool(early.state_only) == all(moved)
