"""Remote write 2.0: what a request of 1.0 with the same content does; and what is none."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.numbered_store import NumberedStore
from support.write_requests import Series, body, number, plain, plain_v2
from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge
from tocsin_alerting.remote_write.receiver import Receiver
from tocsin_alerting.tsdb.store import Store

NOW = 1_790_000_000_000
names = st.sampled_from((b"job", b"instance", b"__name__", b"le", b"", b"a.b", b"\xff"))
series = st.builds(
    Series,
    st.lists(st.tuples(names, st.sampled_from((b"", b"m", b"x" * 200))), max_size=4),
    st.lists(st.tuples(st.integers(NOW, NOW + 9), st.integers(-(2**63), 2**63 - 1)), max_size=3),
    st.integers(0, 2),
)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(series, max_size=5))
def test_it_does_what_the_same_request_of_version_1_does(request: Sequence[Series]) -> None:
    stores = NumberedStore(most=3), NumberedStore(most=3)
    first = Receiver(stores[0]).receive(body(plain(request)), NOW)
    second = Receiver(stores[1]).receive_v2(body(plain_v2(request, b"\x5a\x01x")), NOW)
    assert stores[0].taken() == stores[1].taken()
    assert (first.accepted, first.refused) == (second.accepted, second.refused)
    assert first.first_refused == second.first_refused


def test_a_sample_that_the_store_refuses_is_named() -> None:
    receiver = Receiver(Store())
    one = Series([(b"__name__", b"m"), (b"job", b"j")], [(NOW, 1)])
    receiver.receive_v2(body(plain_v2([one])), NOW)
    other = Series([(b"__name__", b"n")], [(NOW, 1)])
    told = receiver.receive_v2(body(plain_v2([other, Series(one.labels, [(NOW, 2)])])), NOW)
    assert told.message.startswith('1 of 2 samples refused (duplicate 1); the first: m{job="j"} at')


def _field(tag: int, content: bytes) -> bytes:
    return number(tag << 3 | 2) + number(len(content)) + content


LONG = b"".join(
    [_field(4, b""), _field(4, b"m" * 2**20), *[_field(5, _field(1, b"\x01\x01"))] * 40]
)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (_field(5, _field(1, b"\x00\x00")), "the first symbol is not empty"),
        (_field(4, b"m") + _field(5, b""), "the first symbol is not empty"),
        (_field(4, b"") + _field(5, _field(1, b"\x00")), "has a label without a value"),
        (_field(4, b"") + _field(5, _field(1, b"\x00\x01")), "a symbol that is not there"),
        (_field(4, b"") + _field(5, b"\x08\x00"), "has a label without a value"),
        (_field(4, b"")[:-1] + b"\x09", "is cut off"),
        (b"\x20\x01", "has wire type 0"),
        (LONG, "more than 64 MiB of labels"),
    ],
)
def test_what_is_no_such_request(message: bytes, words: str) -> None:
    store = NumberedStore()
    with pytest.raises((Malformed, RequestTooLarge), match=words):
        Receiver(store).receive_v2(body(message), NOW)
    assert store.taken() == []
