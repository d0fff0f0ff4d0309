"""The memory of label bytes: bounded, and good for one epoch."""

from support.numbered_store import NumberedStore
from tocsin_alerting.remote_write.roster import Roster
from tocsin_exporter.snapshot import labels


def test_no_more_series_are_remembered_than_may_be() -> None:
    roster = Roster(NumberedStore(), most=10)
    for number in range(35):
        roster.remember(str(number).encode(), number)
        assert len(roster.known) <= 10
        assert roster.known[str(number).encode()] == number


def test_an_epoch_that_is_over_takes_all_with_it() -> None:
    store = NumberedStore()
    roster = Roster(store)
    assert roster.enrol([labels(__name__="a"), labels(__name__="b")]) == [0, 1]
    assert roster.epoch == store.epoch
    roster.remember(b"key", 1)
    store.renumber()
    assert roster.enrol([labels(__name__="c")]) is None
    assert not roster.known
    assert roster.enrol([labels(__name__="b")]) == [1]
    assert roster.epoch == store.epoch


def test_many_series_are_registered_in_pieces() -> None:
    store = NumberedStore()
    names = [labels(__name__=f"m{number}") for number in range(1500)]
    assert Roster(store).enrol(names) == list(range(1500))
    assert max(store.batches) <= 1000
