"""Requests of every shape, against what went into them; and garbage, which is refused in words."""

import struct
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.numbered_store import NumberedStore, Row
from support.write_requests import Series, body, number, odd, plain
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.promql.eval.limits import QueryError
from tocsin_alerting.remote_write.prompb import Malformed, RequestTooLarge
from tocsin_alerting.remote_write.receiver import Busy, Receiver
from tocsin_alerting.tsdb.native_histograms import MOST_NAMES, REMEMBERED_MS, NativeHistograms
from tocsin_alerting.tsdb.senders import UNKNOWN, Sender
from tocsin_alerting.tsdb.store import Store
from tocsin_alerting.tsdb.values import Ints
from tocsin_exporter.snapshot import Labels

NOW = 1_790_000_000_000
STALE_BITS = 0x7FF0000000000002
ODD_BITS = (0, -(2**63), 1, STALE_BITS, 0x7FF8000000000001, 0x7FF0000000000000, -1)
ODD_TIMES = (0, 1, -1, 2**35 - 1, 2**35, 2**42 - 1, 2**42, 2**63 - 1, -(2**63), NOW)

bits = st.one_of(st.sampled_from(ODD_BITS), st.integers(-(2**63), 2**63 - 1))
times = st.one_of(st.integers(NOW - 10**9, NOW + 10**9), st.sampled_from(ODD_TIMES))
values = st.text(max_size=6).map(str.encode)
names = st.sampled_from((b"job", b"instance", b"le", "\N{SNOWMAN}".encode(), b"a.b", b"z" * 130))


@st.composite
def series(draw: st.DrawFn) -> Series:
    labels = draw(st.dictionaries(names, values, max_size=4))
    named = {b"__name__": draw(st.sampled_from((b"m", b"n", b"up"))), **labels}
    samples = draw(st.lists(st.tuples(times, bits), max_size=3))
    usual = draw(st.booleans())
    if usual:
        samples = [(NOW + draw(st.integers(0, 10**6)), draw(bits))]
    return Series(tuple(named.items()), samples, draw(st.sampled_from((0, 0, 0, 1))))


requests = st.lists(series(), max_size=6)


def rows(request: Sequence[Series]) -> list[Row]:
    """What a store must get: labels sorted, none of them empty; a zero of any sign stays."""
    return [
        (tuple(sorted((n.decode(), v.decode()) for n, v in one.labels if v)), at_ms, value)
        for one in request
        for at_ms, value in one.samples
    ]


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(requests, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_what_was_sent_arrives_however_it_was_written(
    sent: list[list[Series]], random: Random
) -> None:
    store = NumberedStore()
    receiver = Receiver(store)
    for request in [one for one in sent for _ in range(3)]:
        for message in (plain(request), odd(request, random)):
            receipt = receiver.receive(body(message), NOW)
            assert store.taken() == rows(request)
            histograms = sum(one.histograms for one in request)
            assert sum(receipt.refused.values()) == histograms
            assert ("native histograms are not stored" in receipt.message) == (histograms > 0)


def _answer(receiver: Receiver, store: NumberedStore, message: bytes) -> object:
    try:
        receipt = receiver.receive(body(message), NOW)
    except (Malformed, RequestTooLarge) as error:
        assert str(error)
        assert store.taken() == []
        return "refused"
    return store.taken(), receipt.refused, receipt.first_refused


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(series(), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from(("change", "cut", "insert", "remove")),
)
def test_who_knows_the_series_and_who_does_not_make_the_same_of_garbage(
    request: list[Series], places: list[tuple[int, int]], kind: str
) -> None:
    usual = [Series(one.labels, one.samples[:1] or [(NOW, 5)]) for one in request]
    message = plain(usual)
    warm_store, cold_store = NumberedStore(), NumberedStore()
    warm, cold = Receiver(warm_store), Receiver(cold_store)
    for _ in range(3):
        warm.receive(body(message), NOW)
    warm_store.taken()
    spoilt = bytearray(message)
    for place, byte in places:
        at = place % max(1, len(spoilt))
        if kind == "change":
            spoilt[at] = byte
        elif kind == "insert":
            spoilt.insert(at, byte)
        else:
            del spoilt[at : at + 1 if kind == "remove" else len(spoilt)]
            spoilt += b"" if spoilt else b"\n"
    garbage = bytes(spoilt)
    expected = _answer(cold, cold_store, garbage)
    assert _answer(warm, warm_store, garbage) == expected
    assert _answer(warm, warm_store, message) == (rows(usual), {}, "")


@settings(max_examples=examples(150), deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_refused_in_words(noise: bytes) -> None:
    store = NumberedStore()
    for sent in (noise, body(noise)):
        try:
            Receiver(store).receive(sent, NOW)
        except (Malformed, RequestTooLarge) as error:
            assert str(error)


def one(name: bytes = b"m", at_ms: int = NOW, value: int = 1, **labels: str) -> Series:
    pairs = {b"__name__": name, **{n.encode(): v.encode() for n, v in labels.items()}}
    return Series(tuple(pairs.items()), [(at_ms, value)])


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([(b"a", b"b")], "missing __name__"),
        ([(b"__name__", b"")], "missing __name__"),
        ([(b"__name__", b"m"), (b"a", b"b"), (b"a", b"c")], 'duplicate label "a"'),
        ([(b"__name__", b"m"), (b"a", b""), (b"a", b"c")], 'duplicate label "a"'),
        ([(b"__name__", b"m"), (b"", b"c")], "a label without a name"),
        ([(b"__name__", b"m"), (b"a", b"\xff\n")], r'the label text "\xff\n" is not UTF-8'),
        ([(b"__name__", b"m"), (b"\xed\xa0\x80", b"x")], r'"\xed\xa0\x80" is not UTF-8'),
    ],
)
def test_a_series_that_nobody_would_keep_costs_itself_alone(
    labels: list[tuple[bytes, bytes]], why: str
) -> None:
    store = NumberedStore()
    receiver = Receiver(store)
    request = [one(b"x"), Series(labels, [(NOW, 1), (NOW + 1, 1)]), one(b"y")]
    for _ in range(2):
        receipt = receiver.receive(body(plain(request)), NOW)
        assert store.taken() == rows([request[0], request[2]])
        assert (receipt.accepted, dict(receipt.refused)) == (2, {"invalid_labels": 2})
        assert receipt.message.startswith("2 of 4 samples refused (invalid_labels 2); the first: ")
        assert receipt.message.endswith(why)
        assert "\n" not in receipt.message
    assert receiver.counters.samples == 4
    assert receiver.counters.refused == {"invalid_labels": 4}


def test_the_first_refused_sample_is_the_first_of_the_request() -> None:
    histogram = Series([(b"__name__", b"h")], [], histograms=1)
    receipt = Receiver(NumberedStore()).receive(body(plain([histogram, one(b"")])), NOW)
    assert receipt.first_refused == "h{}: native histograms are not stored"
    receipt = Receiver(NumberedStore()).receive(body(plain([one(b""), histogram])), NOW)
    assert receipt.first_refused == "{}: missing __name__"


def test_series_without_a_place_are_refused_by_name() -> None:
    store = NumberedStore(most=1)
    receiver = Receiver(store)
    for _ in range(3):
        receipt = receiver.receive(body(plain([one(job="a"), one(job="b")])), NOW)
        assert store.taken() == rows([one(job="a")])
        assert receipt.message == (
            "1 of 2 samples refused (per_source 1); the first: "
            'm{job="b"}: its source has too many series'
        )


def test_what_the_store_refuses_is_told_and_the_first_of_it_by_name() -> None:
    receiver = Receiver(NumberedStore(refused={"too_old": 1, "duplicate": 1}))
    request = [one(job="a"), one(job="b", at_ms=NOW + 1), one(job="c")]
    for message in [plain(request)] * 3 + [odd(request, Random(1))]:
        receipt = receiver.receive(body(message), NOW)
        assert (receipt.accepted, dict(receipt.refused)) == (1, {"too_old": 1, "duplicate": 1})
        assert receipt.message == (
            "2 of 3 samples refused (duplicate 1, too_old 1); "
            'the first: m{job="b"} at 1790000000.001: too_old'
        )
    mixed = [one(b"", job="a"), *request]
    assert receiver.receive(body(plain(mixed)), NOW).first_refused == '{job="a"}: missing __name__'


def test_series_are_registered_once_and_again_in_a_new_epoch() -> None:
    store = NumberedStore()
    receiver = Receiver(store)
    request = [one(job=str(job)) for job in range(5)]
    for _ in range(4):
        receiver.receive(body(plain(request)), NOW)
    assert store.registered == 5
    store.renumber()
    store.taken()
    other = [one(job=str(job)) for job in reversed(range(7))]
    assert receiver.receive(body(plain(other)), NOW).accepted == 7
    assert store.taken() == rows(other)
    for _ in range(3):
        receiver.receive(body(plain(request)), NOW)
        assert store.taken() == rows(request)
    assert store.registered == 5 + 2 + 7  # the two new ones told that the epoch was over


def test_an_epoch_that_ends_while_new_series_are_registered() -> None:
    store = NumberedStore()
    receiver = Receiver(store)
    receiver.receive(body(plain([one(job="a"), one(job="b")])), NOW)
    store.renumber()
    store.taken()
    request = [one(job="b"), one(job="c")]
    assert receiver.receive(body(plain(request)), NOW).accepted == 2
    assert store.taken() == rows(request)


class Restless(NumberedStore):
    """Ends its epoch whenever a series was registered."""

    def register(self, series: Sequence[Labels], sender: Sender = UNKNOWN) -> tuple[int, Ints]:
        self.renumber()
        return self.epoch - 1, super().register(series)[1]


def test_a_store_that_never_settles_is_to_be_asked_again() -> None:
    store = Restless()
    with pytest.raises(Busy, match="send it again"):
        Receiver(store).receive(body(plain([one()])), NOW)
    assert store.taken() == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x0a\x05\x0a", "cut off"),
        (b"\x0a", "cut off"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than 10 bytes"),
        (b"\x08\x01", "a time series has wire type 0; it must have 2"),
        (b"\x0a\x02\x08\x01", "a label has wire type 0"),
        (b"\x0a\x04\x12\x02\x08\x01", "the value of a sample has wire type 0"),
        (b"\x0a\x05\x12\x03\x12\x01\x00", "the timestamp of a sample has wire type 2"),
        (b"\x0a\x04\x0a\x02\x08\x01", "the text of a label has wire type 0"),
        (b"\x0b\x0c", "wire type 3, which is not supported"),
        (b"\x00\x00", "field number 0"),
    ],
)
def test_a_broken_message_is_refused_as_a_whole(message: bytes, why: str) -> None:
    store = NumberedStore()
    receiver = Receiver(store)
    for sent in (message, plain([one()]) + message):
        with pytest.raises(Malformed, match=why):
            receiver.receive(body(sent), NOW)
    assert store.taken() == []


def test_an_empty_message_is_no_mistake() -> None:
    receipt = Receiver(NumberedStore()).receive(body(b""), NOW)
    assert (receipt.accepted, receipt.refused) == (0, {})


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a\x00" * 100_001,
        b"\x0a\x82\x80\x40" + b"\x12\x00" * (1 << 19) + b"\x12\x00",
        (b"\x0a\x80\x80\x20" + b"\x12\x00" * (1 << 18)) * 4,
    ],
    ids=["series", "one series", "samples"],
)
def test_a_request_that_would_take_much_memory_is_refused(message: bytes) -> None:
    with pytest.raises(RequestTooLarge):
        Receiver(NumberedStore()).receive(body(message), NOW)


def test_values_keep_their_bits_through_the_layout() -> None:
    store = NumberedStore()
    receiver = Receiver(store)
    for turn, value in enumerate((5, *ODD_BITS, 7, *ODD_BITS)):
        request = [one(job="a", at_ms=NOW + turn, value=value), one(job="b", value=value)]
        receiver.receive(body(plain(request)), NOW)
        assert store.taken() == rows(request)


def test_a_value_that_looks_like_a_sample() -> None:
    head = struct.pack("<Q", int.from_bytes(b"\x12\x10\x09\x12\x10\x09\x12\x07", "little"))
    looks = int.from_bytes(head, "little", signed=True)
    request = [one(value=looks), one(job="\x12\x07\x10" + "\x12\x10\t" * 5, value=looks)]
    store = NumberedStore()
    receiver = Receiver(store)
    for _ in range(4):
        receiver.receive(body(plain(request)), NOW)
        assert store.taken() == rows(request)


def test_numbers_may_be_padded() -> None:
    assert number(1, 2) == b"\x81\x80\x00"
    padded = b"\x0a" + number(len(plain([one()])) - 2, 2) + plain([one()])[2:]
    store = NumberedStore()
    Receiver(store).receive(body(padded), NOW)
    assert store.taken() == rows([one()])


def test_a_real_store_names_what_it_refuses_and_keeps_the_rest() -> None:
    store = Store()
    receiver = Receiver(store)
    for at_ms in (NOW, NOW + 5_000):
        request = [one(job=str(n), at_ms=at_ms, value=at_ms) for n in range(20)]
        assert receiver.receive(body(plain(request)), NOW + 5_000).accepted == 20
    request = [
        one(job="0", at_ms=NOW + 10_000, value=STALE_BITS),
        one(job="1", at_ms=NOW + 5_000, value=7),
        one(job="2", at_ms=NOW - 60_000),
        one(job="3", at_ms=NOW + 10**7),
        one(job="4", at_ms=NOW + 10_000),
    ]
    receipt = receiver.receive(body(plain(request)), NOW + 10_000)
    assert (receipt.accepted, dict(receipt.refused)) == (
        2,
        {"duplicate": 1, "out_of_order": 1, "too_far_ahead": 1},
    )
    assert receipt.first_refused == 'm{job="1"} at 1790000005.000: duplicate'
    engine = QueryEngine(store)
    alive = engine.evaluate("count(m)", NOW + 10_000).value
    assert [value for _, value in alive] == [19]  # type: ignore[union-attr,misc]


def test_series_that_are_known_are_written_after_the_store_gave_up_its_numbers() -> None:
    store = NumberedStore()
    receiver = Receiver(store)
    for turn in range(3):
        receiver.receive(body(plain([one(at_ms=NOW + turn)])), NOW)
    store.renumber()
    store.taken()
    assert receiver.receive(body(plain([one(at_ms=NOW + 3)])), NOW).accepted == 1
    assert store.taken() == rows([one(at_ms=NOW + 3)])


def test_the_first_refusal_is_that_of_the_first_series_in_the_request() -> None:
    """What the store refuses is known after what no Prometheus would keep."""
    store = Store()
    receiver = Receiver(store)
    receiver.receive(body(plain([one(job="early")])), NOW)
    nameless = Series(((b"job", b"late"),), [(NOW, 1)])
    old = one(job="early", at_ms=NOW - 10**9)
    for request in ([old, nameless], [nameless, old]):
        result = receiver.receive(body(plain(request)), NOW)
        assert result.accepted == 0 and sum(result.refused.values()) == 2
        assert ('job="early"' in result.first_refused) is (request[0] is old)


def test_who_asks_for_a_native_histogram_is_told_that_it_is_not_stored() -> None:
    """Beside it floats are stored; a metric that has any is answered from these."""
    store = Store()
    receiver = Receiver(store)
    engine = QueryEngine(store, natives=receiver.natives)

    def named(name: bytes, samples: Sequence[tuple[int, int]], histograms: int) -> Series:
        return Series([(b"__name__", name), (b"job", b"j")], samples, histograms)

    sent = [named(b"lag", [], 1), named(b"lag_count", [(NOW, 1)], 0), named(b"both", [(NOW, 1)], 1)]
    result = receiver.receive(body(plain(sent)), NOW)
    assert (result.accepted, result.refused) == (2, {"native_histogram": 2})
    assert 'lag{job="j"}: native histograms are not stored' in result.message
    for query in (
        "lag",
        "rate(lag[5m])",
        "absent(lag)",
        '{__name__="lag",job="k"}',
        "vector(1) or lag",
    ):
        with pytest.raises(QueryError, match='metric "lag" comes as native histograms, which are'):
            engine.evaluate(query, NOW)
    for query in ("lag_count", "both", "other", '{__name__=~"lag"}', 'lag_count{job="k"}'):
        engine.evaluate(query, NOW)


def test_native_histograms_are_remembered_as_long_as_they_come() -> None:
    natives = NativeHistograms()
    assert not natives.holds("m0")
    for serial in range(MOST_NAMES + 1):
        natives.add(f"m{serial}", NOW)
    assert not natives.holds("m0") and natives.holds("m1")
    natives.add("m1", NOW + REMEMBERED_MS)
    assert natives.holds("m1") and not natives.holds("m2")
