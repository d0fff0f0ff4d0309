"""The memory of label bytes: bounded, and good for one epoch."""

from support.numbered_store import NumberedStore
from tocsin_alerting.remote_write.ref_cache import SeriesRefCache
from tocsin_exporter.snapshot import labels


def test_no_more_series_are_remembered_than_may_be() -> None:
    roster = SeriesRefCache(NumberedStore(), most=10)
    for number in range(35):
        roster.add(str(number).encode(), number)
        assert len(roster.ref_by_key) <= 10
        assert roster.ref_by_key[str(number).encode()] == number


def test_an_epoch_that_is_over_takes_all_with_it() -> None:
    store = NumberedStore()
    roster = SeriesRefCache(store)
    assert roster.register([labels(__name__="a"), labels(__name__="b")]) == [0, 1]
    assert roster.epoch == store.epoch
    roster.add(b"key", 1)
    store.renumber()
    assert roster.register([labels(__name__="c")]) is None
    assert not roster.ref_by_key
    assert roster.register([labels(__name__="b")]) == [1]
    assert roster.epoch == store.epoch


def test_many_series_are_registered_in_pieces() -> None:
    store = NumberedStore()
    names = [labels(__name__=f"m{number}") for number in range(1500)]
    assert SeriesRefCache(store).register(names) == list(range(1500))
    assert max(store.batches) <= 1000
