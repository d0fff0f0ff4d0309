"""What each sender may bring, however many there are and whatever they call themselves."""

from tocsin_alerting.tsdb.senders import Sender, SenderUsage

MOST = 1000


def fill(tally: SenderUsage, sender: Sender, used: int) -> int:
    """It brings what it may; how much that was."""
    brought = 0
    while used + brought < MOST and not tally.over_share(sender, used + brought, MOST):
        tally.add(sender, 1)
        brought += 1
    return brought


def test_whoever_comes_leaves_room_for_the_next() -> None:
    tally, used = SenderUsage(), 0
    shares = []
    for number in range(4):
        shares.append(fill(tally, Sender(f"10.0.0.{number}", "x"), used))
        used += shares[-1]
    assert shares == [500, 250, 125, 63]


def test_an_address_that_makes_up_products_leaves_a_quarter_to_the_others() -> None:
    tally, used = SenderUsage(), 0
    for number in range(100):
        used += fill(tally, Sender("10.0.0.7", str(number)), used)
    assert used == 750
    assert fill(tally, Sender("10.0.0.8", ""), used) == 125


def test_what_a_sender_no_longer_has_it_may_bring_again() -> None:
    tally, sender = SenderUsage(), Sender("10.0.0.7", "x")
    assert fill(tally, sender, 0) == 500
    tally.add(sender, -500)
    assert fill(tally, sender, 0) == 500


def test_a_sender_is_named_by_its_address_and_its_product() -> None:
    assert [str(Sender("::1", "vmagent")), str(Sender("::1", ""))] == ["::1 (vmagent)", "::1"]
