"""Passwords: who is let in, what is looked at how often, and what a crowd of wrong ones costs."""

import asyncio
import base64
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import bcrypt
import pytest

from tocsin_exporter.basic_auth import HASH, FailureLimit, PasswordCheck, Verdict, basic_credentials

RIGHT, WRONG, TOO_MANY = Verdict.RIGHT, Verdict.WRONG, Verdict.TOO_MANY


@cache
def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()


class CountingThread(ThreadPoolExecutor):
    """One thread that counts what it is given, and may be held."""

    def __init__(self) -> None:
        super().__init__(1)
        self.count = 0
        self.free = threading.Event()
        self.free.set()

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.count += 1

        def work():  # type: ignore[no-untyped-def]
            self.free.wait(30)
            return fn(*args, **kwargs)

        return super().submit(work)


class Gate:
    def __init__(self, **users: str) -> None:
        self.users = {name: hashed(password) for name, password in users.items()}
        self.now = 0.0
        self.thread = CountingThread()
        self.auth = PasswordCheck(lambda: self.users, lambda: self.now, self.thread)

    async def ask(self, user: str, password: str | bytes, address: str = "a") -> Verdict:
        sent = password.encode() if isinstance(password, str) else password
        return await self.auth.verify(user, sent, address)


async def test_the_right_password_of_a_user_and_no_other() -> None:
    gate = Gate(li="one", mei="two")
    assert await gate.ask("li", "one") is RIGHT
    assert await gate.ask("mei", "two") is RIGHT
    for user, password in (("li", "two"), ("mei", "one"), ("li", ""), ("", "one"), ("x", "one")):
        assert await gate.ask(user, password) is WRONG


async def test_what_was_found_out_is_not_looked_at_again() -> None:
    gate = Gate(li="one")
    for _ in range(5):
        assert await gate.ask("li", "one") is RIGHT
        assert await gate.ask("li", "two") is WRONG
        assert await gate.ask("mei", "one") is WRONG
    assert gate.thread.count == 3


async def test_a_new_hash_holds_at_once_and_a_user_that_is_gone_is_out() -> None:
    gate = Gate(li="one")
    assert await gate.ask("li", "one") is RIGHT
    gate.users = {"li": hashed("two")}
    assert await gate.ask("li", "one") is WRONG
    assert await gate.ask("li", "two") is RIGHT
    gate.users = {"mei": hashed("two")}
    assert await gate.ask("li", "two") is WRONG


async def test_nobody_s_password_is_that_of_the_fake_hash_either() -> None:
    gate = Gate(li="one")
    for password in ("", "fakepassword", "x"):
        assert await gate.ask("nobody", password) is WRONG


async def test_an_unknown_user_costs_as_much_as_a_known_one() -> None:
    gate = Gate()
    gate.users = {"li": bcrypt.hashpw(b"one", bcrypt.gensalt(9)).decode()}
    given: list[str] = []
    gate.auth._comparisons.compare = (  # type: ignore[method-assign]
        lambda key, address, password, hashed: given.append(hashed) or _false()  # type: ignore[func-returns-value]
    )
    await gate.ask("nobody", "x")
    assert given[0].startswith("$2b$09$") and HASH.fullmatch(given[0])


async def _false() -> bool:
    return False


async def test_of_a_long_password_72_bytes_count_as_with_go() -> None:
    gate = Gate(li="x" * 80)
    assert await gate.ask("li", "x" * 80) is RIGHT
    assert await gate.ask("li", "x" * 72 + "y") is RIGHT
    assert await gate.ask("li", "x" * 71) is WRONG
    assert await gate.ask("li", b"\0") is WRONG


async def test_hashes_of_htpasswd_are_taken() -> None:
    gate = Gate()
    gate.users = {"li": hashed("one").replace("$2b$", "$2y$")}
    assert await gate.ask("li", "one") is RIGHT


async def test_after_twenty_wrong_ones_nobody_looks_and_one_more_each_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    gate = Gate(li="one", mei="two")
    assert await gate.ask("li", "one", "b") is RIGHT
    told = [await gate.ask("li", f"wrong {number}") for number in range(30)]
    assert told == [WRONG] * 20 + [TOO_MANY] * 10
    assert gate.thread.count == 21
    assert await gate.ask("li", "one") is RIGHT, "known, wherever it comes from"
    assert await gate.ask("mei", "two") is TOO_MANY
    assert await gate.ask("mei", "two", "b") is RIGHT
    gate.now += 1
    assert [await gate.ask("li", f"again {number}") for number in range(2)] == [WRONG, TOO_MANY]
    said = [record.getMessage() for record in caplog.records]
    assert said == ["wrong password refused"] * 21
    assert "wrong 1" not in caplog.text and "one" not in caplog.text


async def test_the_next_user_waits_for_one_of_each_address_and_no_more() -> None:
    gate = Gate(li="one")
    gate.thread.free.clear()
    crowd = [asyncio.ensure_future(gate.ask("x", f"{number}", "crowd")) for number in range(40)]
    await asyncio.sleep(0)
    right = asyncio.ensure_future(gate.ask("li", "one", "home"))
    await asyncio.sleep(0)
    order: list[str] = []
    right.add_done_callback(lambda _: order.append("right"))
    for one in crowd:
        one.add_done_callback(lambda done: order.append(done.result().value))
    gate.thread.free.set()
    await asyncio.gather(right, *crowd)
    assert right.result() is RIGHT
    assert order.count("too many") >= 35, "of an address four wait, and nobody looks at the others"
    assert [said for said in order if said != "too many"].index("right") <= 2


async def test_who_asks_the_same_waits_for_the_same_answer() -> None:
    gate = Gate(li="one")
    gate.thread.free.clear()
    asked = [asyncio.ensure_future(gate.ask("li", "one", f"{n}")) for n in range(200)]
    await asyncio.sleep(0)
    asked[0].cancel()
    gate.thread.free.set()
    assert set(await asyncio.gather(*asked[1:])) == {RIGHT}
    assert gate.thread.count == 1


async def test_very_many_addresses_have_a_bound() -> None:
    gate = Gate(li="one")
    gate.thread.free.clear()
    asked = [asyncio.ensure_future(gate.ask("x", "y", f"{n}")) for n in range(2)]
    asked += [asyncio.ensure_future(gate.ask("x", f"{n}", f"{n}")) for n in range(100)]
    await asyncio.sleep(0)
    gate.thread.free.set()
    told = await asyncio.gather(*asked)
    assert told.count(TOO_MANY) == 37 and gate.thread.count == 64


async def test_memory_has_a_bound_and_wrong_ones_drive_out_no_right_one() -> None:
    gate = Gate(li="one")
    assert await gate.ask("li", "one") is RIGHT
    for number in range(1100):
        await gate.ask("li", f"{number}", f"{number}")
    count = gate.thread.count
    assert await gate.ask("li", "one") is RIGHT
    assert gate.thread.count == count
    assert len(gate.auth._wrong) == 1000


def test_a_limit_fills_up_again_and_remembers_ten_thousand() -> None:
    now = [0.0]
    limit = FailureLimit(lambda: now[0])
    assert not any(limit.exceeded("a") for _ in range(20))
    assert limit.spent("a") and limit.exceeded("a") and not limit.spent("b")
    now[0] = 1.0
    assert not limit.spent("a") and not limit.exceeded("a") and limit.spent("a")
    for number in range(10_000):
        limit.exceeded(f"{number}")
    assert not limit.spent("a")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Basic bGk6b25l", ("li", b"one")),
        ("basic bGk6b25l", ("li", b"one")),
        ("Basic  bGk6b25l", None),  # as Go's
        ("Basic " + base64.b64encode(b"li:a:b").decode(), ("li", b"a:b")),
        ("Basic " + base64.b64encode(b":").decode(), ("", b"")),
        ("Basic " + base64.b64encode(b"li").decode(), None),
        ("Basic !", None),
        ("Basic \xe4", None),
        ("Bearer bGk6b25l", None),
        ("", None),
    ],
)
def test_what_a_header_holds(header: str, found: tuple[str, bytes] | None) -> None:
    assert basic_credentials(header) == found


async def test_a_user_that_nobody_knows_is_wrong_whatever_a_comparison_says() -> None:
    gate = Gate(li="one")

    async def right(*_: object) -> bool:
        return True

    gate.auth._comparisons.compare = right  # type: ignore[method-assign, assignment]
    assert await gate.ask("li", "x") is RIGHT
    assert await gate.ask("nobody", "x") is WRONG
