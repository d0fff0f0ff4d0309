"""Who finds room on a server, and who makes room for whom."""

import ipaddress
import resource
import subprocess
import sys

import pytest

from tocsin_exporter.connections import (
    ConnectionLimits,
    Connections,
    counted_address,
    most_connections,
)


class Client:
    """A connection without a socket; `reading` still takes its answer."""

    def __init__(
        self, address: str = "10.0.0.1", reading: bool = False, trusted: bool = False
    ) -> None:
        self.address, self.trusted = address, trusted
        self.reading = reading
        self.dropped = self.takes_nothing = False
        self.asked = 0

    def can_go(self) -> bool:
        self.asked += 1
        return not self.reading

    def stalled(self) -> bool:
        self.asked += 1
        return self.takes_nothing

    def drop(self) -> None:
        self.dropped = True

    def check(self, now: float) -> None:
        """Nothing takes long here."""


def clients(
    count: int, table: Connections, address: str | None = None, trusted: bool = False
) -> list[Client]:
    made = [Client(address or f"10.0.0.{number}", trusted=trusted) for number in range(count)]
    assert [table.admit(one) for one in made] == [None] * count
    return made


def test_one_address_has_half_of_all_and_no_more() -> None:
    table = Connections(ConnectionLimits(connections=8, spare=0))
    greedy = clients(4, table, "10.0.0.1")
    for one in greedy:
        table.busy(one)
    assert table.admit(Client("10.0.0.1")) == "address"
    assert table.admit(Client("10.0.0.2")) is None
    assert table.refused == {"full": 0, "address": 1}
    assert len(table) == 5


def test_the_longest_waiting_of_the_same_address_makes_room() -> None:
    table = Connections(ConnectionLimits(connections=8, spare=0))
    other = clients(1, table, "10.0.0.9")[0]
    first, second, third, fourth = clients(4, table, "10.0.0.1")
    table.busy(first)
    assert table.admit(Client("10.0.0.1")) is None
    assert [one.dropped for one in (other, first, second, third)] == [False, False, True, False]
    table.busy(third)
    table.waits(third)  # it has waited for less long than the fourth
    assert table.admit(Client("10.0.0.1")) is None
    assert (third.dropped, fourth.dropped) == (False, True)
    assert table.closed["evicted"] == 2
    assert len(table) == 5


def test_when_all_is_full_whoever_waits_longest_makes_room_and_nobody_in_a_request() -> None:
    table = Connections(ConnectionLimits(connections=4, spare=0))
    asking, reading, waiting, late = clients(4, table)
    table.busy(asking)
    reading.reading = True
    assert table.admit(Client("10.1.0.1")) is None
    assert [one.dropped for one in (asking, reading, waiting, late)] == [False, False, True, False]
    table.busy(late)
    newest = Client("10.1.0.2")
    assert table.admit(newest) is None  # in place of 10.1.0.1
    table.busy(newest)
    assert table.admit(Client("10.1.0.3")) == "full"
    assert table.refused["full"] == 1


def test_who_sends_no_body_makes_room_after_who_waits_and_before_who_takes_no_answer() -> None:
    table = Connections(ConnectionLimits(connections=4, spare=0))
    stalled, late, early, waiting = clients(4, table)
    table.reads(stalled)
    table.busy(stalled)
    stalled.takes_nothing = True
    table.reads(early)
    table.reads(late)
    for gone in (waiting, early, late, stalled):
        assert not gone.dropped
        newest = Client(f"10.1.0.{table.closed['evicted']}")
        assert table.admit(newest) is None
        assert gone.dropped
        table.busy(newest)
    assert table.admit(Client("10.2.0.1")) == "full"


def test_a_few_more_find_room_for_a_question_and_the_unix_socket_has_its_own() -> None:
    table = Connections(ConnectionLimits(connections=2, spare=2))
    for one in clients(2, table):
        table.busy(one)
    spare = [Client(f"10.1.0.{number}") for number in range(2)]
    for one in spare:
        assert table.admit(one) is None
        assert table.is_spare(one)
        table.busy(one)
    assert table.admit(Client("10.2.0.1")) == "full"
    assert table.admit(Client("unix")) is None
    table.remove(spare[0])
    assert not table.is_spare(spare[0])
    table.refuse_spare(spare[1])
    assert table.refused["full"] == 2


def test_a_spare_connection_that_makes_room_leaves_a_spare_place() -> None:
    table = Connections(ConnectionLimits(connections=2, spare=1))
    for one in clients(2, table):
        table.busy(one)
    for number in range(9):
        newest = Client(f"10.1.0.{number}")
        assert table.admit(newest) is None
        assert table.is_spare(newest)
    assert len(table) == 3


def test_nobody_takes_the_spare_places_of_those_that_wait_in_them() -> None:
    """The first to come and to say nothing yet were closed for others, though that made no room."""
    table = Connections(ConnectionLimits(connections=2))
    for one in clients(2, table):
        table.busy(one)
    checkers = [Client(f"10.1.0.{number}") for number in range(7)]
    local = [Client("unix") for _ in range(8)]
    for one in [*local, *checkers]:
        assert table.admit(one) is None
    for _ in range(100):
        assert table.admit(Client("10.2.0.1")) is None
    assert not [one.address for one in [*local, *checkers] if one.dropped]
    assert len(table) == 2 + 8 + 8
    assert table.admit(Client("unix")) is None
    assert [one.dropped for one in local] == [True, *[False] * 7]


def test_of_spare_places_the_address_with_most_gives_one_up() -> None:
    table = Connections(ConnectionLimits(connections=1))
    table.busy(clients(1, table)[0])
    crowd = [Client("10.1.0.1") for _ in range(8)]
    checkers = [Client(f"10.2.0.{number}") for number in range(7)]
    for one in [*crowd, *checkers]:
        assert table.admit(one) is None
    assert [one.dropped for one in crowd] == [*[True] * 7, False]
    last = Client("10.3.0.1")
    assert table.admit(last) is None  # each has one: the longest waiting goes
    assert crowd[-1].dropped
    for one in [*checkers, last]:
        table.busy(one)
    assert table.admit(Client("10.4.0.1")) == "full"


def test_the_places_of_the_unix_socket_and_of_health_are_not_each_others() -> None:
    table = Connections(ConnectionLimits(connections=1))
    table.busy(clients(1, table)[0])
    for address in ("unix", "10.1.0.1"):
        for one in clients(8, table, address):
            table.busy(one)
        assert table.admit(Client(address)) == "full"


def test_however_many_come_in_a_second_each_connection_is_asked_once_to_make_room() -> None:
    """Each newcomer cost a look at all of them: 2.4 ms of the loop at 1,500 connections."""
    table = Connections(ConnectionLimits(connections=2048, spare=0))
    others = clients(200, table)
    greedy = clients(1024, table, "10.9.0.1")
    for one in greedy[:1000]:
        table.busy(one)
    for one in greedy[1000:]:
        one.reading = True
    for _ in range(500):
        assert table.admit(Client("10.9.0.1")) == "address"
    assert max(one.asked for one in [*others, *greedy]) <= 2
    greedy[0].takes_nothing = True
    greedy[1010].reading = greedy[1020].reading = False
    table.look(1.0)
    for gone in (1010, 1020, 0):
        newest = clients(1, table, "10.9.0.1")[0]
        table.busy(newest)
        assert greedy.pop(gone - (gone == 1020)).dropped
    assert not any(one.dropped for one in [*others, *greedy])


@pytest.mark.parametrize("reads", [False, True])
def test_who_was_passed_over_keeps_its_turn(reads: bool) -> None:
    table = Connections(ConnectionLimits(connections=8, spare=0))
    first, second, third, fourth = clients(4, table, "10.0.0.1")
    for one in (first, second, third, fourth) if reads else ():
        table.reads(one)
    first.reading = True
    newest = clients(1, table, "10.0.0.1")[0]
    assert second.dropped
    table.busy(newest)
    first.reading = False
    table.look(1.0)
    assert table.admit(Client("10.0.0.1")) is None
    assert (first.dropped, third.dropped, fourth.dropped) == (True, False, False)


def test_what_has_gone_leaves_its_place() -> None:
    table = Connections(ConnectionLimits(connections=4, spare=0))
    first, second = clients(2, table, "10.0.0.1")
    for one in (first, second):
        table.busy(one)
    table.remove(first)
    table.remove(first)
    table.waits(first)
    assert table.admit(Client("10.0.0.1")) is None
    assert len(table) == 2


def test_a_trusted_client_may_have_all() -> None:
    table = Connections(ConnectionLimits(connections=4, spare=0))
    for one in clients(4, table, "10.0.0.1", trusted=True):
        table.busy(one)
    assert table.admit(Client("10.0.0.1", trusted=True)) == "full"


@pytest.mark.parametrize(
    ("network", "address", "trusted"),
    [
        ("10.0.0.0/24", "10.0.0.7", True),
        ("10.0.0.0/24", "::ffff:10.0.0.7", True),
        ("10.0.0.0/24", "10.0.1.7", False),
        ("10.0.0.0/24", "2001:db8::7", False),
        ("::1", "::1", True),
        ("2001:db8:1:2::7", "2001:db8:1:2::7", True),
        ("2001:db8:1:2::7", "2001:db8:1:2::8", False),
        ("2001:db8:1:2::/96", "2001:db8:1:2::8", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("10.0.0.0/24", "a name", False),
    ],
)
def test_who_is_trusted(network: str, address: str, trusted: bool) -> None:
    limits = ConnectionLimits(exempt=[ipaddress.ip_network(network)])
    assert limits.trusts((address, 5)) is trusted
    assert not limits.trusts(None)


def test_a_trusted_address_shares_its_place_with_no_neighbour() -> None:
    assert counted_address(("2001:db8:1:2::7", 5), trusted=True) == "2001:db8:1:2::7"
    assert counted_address(("2001:db8:1:2::8", 5)) == "2001:db8:1:2::"


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("10.0.0.7", 5), "10.0.0.7"),
        (("::ffff:10.0.0.7", 5), "10.0.0.7"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::"),
        (("fe80::1%eth0", 5), "fe80::"),
        (("::1", 5), "::"),
        (None, "unix"),
    ],
)
def test_what_a_client_counts_under(client: tuple[str, int] | None, address: str) -> None:
    assert counted_address(client) == address


@pytest.mark.parametrize(("soft", "hard"), [(256, 4096), (64, 64), (1024, 1 << 17)])
def test_the_soft_limit_is_raised_and_half_is_kept_back(soft: int, hard: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    code = f"""\
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from tocsin_exporter import connections as c
print(c.raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print(c.most_connections(), c.Connections().limits.connections)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    raised, now, most, limit = map(int, done.stdout.split())
    assert raised == now == min(hard, 65536)
    assert most == limit == min(2048, now // 2)


def test_there_is_room_for_two_hundred_clients_of_one_machine() -> None:
    assert ConnectionLimits(connections=min(2048, most_connections())).per_address >= 200
