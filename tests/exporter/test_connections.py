"""Who finds room on a server, and who makes room for whom."""

import ipaddress
import resource
import subprocess
import sys

import pytest

from tocsin_exporter.connections import (
    Connections,
    Limits,
    counted_address,
    most_connections,
)


class Client:
    """A connection without a socket; `reading` still takes its answer."""

    def __init__(self, address: str = "10.0.0.1", reading: bool = False) -> None:
        self.address = address
        self.reading = reading
        self.dropped = self.takes_nothing = False

    def can_go(self) -> bool:
        return not self.reading

    def stalled(self) -> bool:
        return self.takes_nothing

    def drop(self) -> None:
        self.dropped = True

    def check(self, now: float) -> None:
        """Nothing takes long here."""


def clients(count: int, table: Connections, address: str | None = None) -> list[Client]:
    made = [Client(address or f"10.0.0.{number}") for number in range(count)]
    assert [table.admit(one) for one in made] == [None] * count
    return made


def test_one_address_has_half_of_all_and_no_more() -> None:
    table = Connections(Limits(connections=8, spare=0))
    greedy = clients(4, table, "10.0.0.1")
    for one in greedy:
        table.busy(one)
    assert table.admit(Client("10.0.0.1")) == "address"
    assert table.admit(Client("10.0.0.2")) is None
    assert table.refused == {"full": 0, "address": 1}
    assert len(table) == 5


def test_the_longest_waiting_of_the_same_address_makes_room() -> None:
    table = Connections(Limits(connections=8, spare=0))
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
    table = Connections(Limits(connections=4, spare=0))
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
    table = Connections(Limits(connections=4, spare=0))
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
    table = Connections(Limits(connections=2, spare=2))
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
    table = Connections(Limits(connections=2, spare=1))
    for one in clients(2, table):
        table.busy(one)
    for number in range(9):
        newest = Client(f"10.1.0.{number}")
        assert table.admit(newest) is None
        assert table.is_spare(newest)
    assert len(table) == 3


def test_what_has_gone_leaves_its_place() -> None:
    table = Connections(Limits(connections=4, spare=0))
    first, second = clients(2, table, "10.0.0.1")
    for one in (first, second):
        table.busy(one)
    table.remove(first)
    table.remove(first)
    table.waits(first)
    assert table.admit(Client("10.0.0.1")) is None
    assert len(table) == 2


def test_a_trusted_network_may_have_all() -> None:
    proxies = (ipaddress.ip_network("10.0.0.0/24"),)
    table = Connections(Limits(connections=4, exempt=proxies, spare=0))
    for one in clients(4, table, "10.0.0.1"):
        table.busy(one)
    assert table.admit(Client("10.0.0.1")) == "full"
    assert Connections(Limits(connections=4, exempt=proxies, spare=0)).admit(Client("unix")) is None


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
    assert Limits(connections=min(2048, most_connections())).per_address >= 200
