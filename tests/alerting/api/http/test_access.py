"""Who asks: by the socket, with a token, from this machine, from another."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from starlette.requests import Request

from support.api_client import credentials
from tocsin_alerting.api.http.access import WAIT_SECONDS, Access, Credentials
from tocsin_alerting.api.http.roles import Principal, Role
from tocsin_exporter.basic_auth import FailureLimit

LOCAL, FAR = "127.0.0.1", "10.0.0.7"


@dataclass
class Door:
    """An Access whose clock and files the test moves."""

    known: Credentials = field(default_factory=Credentials)
    now: float = 0.0
    open_reads: bool = False
    reads: int = 0

    def __post_init__(self) -> None:
        self.access = Access(
            self._load, lambda: self.now, lambda uid: f"u{uid}", 1000, self.open_reads
        )

    def _load(self) -> Credentials:
        self.reads += 1
        return self.known

    async def ask(self, token: str | None = None, address: str = LOCAL) -> Principal:
        self.now += 1
        return await self.access.identify(request(token, address))


def request(token: str | None = None, address: str = LOCAL, *more: tuple[bytes, bytes]) -> Request:
    sent = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    server = {"server": ("127.0.0.1", 4911), "client": (address, 5)}
    return Request({"type": "http", "path": "/", "headers": [*sent, *more], **server})


def by_socket(uid: int | None) -> Request:
    scope = {"type": "http", "path": "/", "headers": [], "server": ("/run/agent.sock", None)}
    return Request({**scope, "client": None, **({} if uid is None else {"peer_uid": uid})})


async def test_without_credentials_this_machine_is_admin_and_others_scrape() -> None:
    door = Door()
    assert (await door.ask()).role is Role.ADMIN
    assert (await door.ask("anything")).role is Role.ADMIN
    far = await door.ask(address=FAR)
    assert far.role is Role.METRICS
    assert far.refusal is not None and far.refusal[0] == "forbidden"
    assert "--web.open" in far.refusal[1] and "alertctl token add" in far.refusal[1]


async def test_a_proxy_on_this_machine_is_somebody_else() -> None:
    door = Door()
    forwarded = request(None, LOCAL, (b"x-forwarded-for", b"10.0.0.7"))
    assert (await door.access.identify(forwarded)).role is Role.METRICS


async def test_opened_on_purpose_others_read_and_change_nothing() -> None:
    assert (await Door(open_reads=True).ask(address=FAR)).role is Role.READ
    door = Door(credentials(ops="admin"), open_reads=True)
    assert (await door.ask(address=FAR)).role is Role.READ
    assert (await door.ask("wrong", FAR)).role is Role.METRICS


@pytest.mark.parametrize("address", [LOCAL, FAR])
async def test_a_token_has_its_role_and_its_name_wherever_it_comes_from(address: str) -> None:
    door = Door(credentials(grafana="read", li="respond", ops="admin"))
    for name, role in (("grafana", Role.READ), ("li", Role.RESPOND), ("ops", Role.ADMIN)):
        assert await door.ask(name, address) == Principal(name, role, proven=True)
    for wrong in (None, "", "grafan", "grafanaa", "GRAFANA"):
        refused = await door.ask(wrong, address)
        assert refused.role is Role.METRICS and not refused.proven
        assert refused.refusal is not None and refused.refusal[0] == "unauthorized"


async def test_a_token_file_alone_leaves_reads_to_this_machine() -> None:
    door = Door(credentials("hunter2"))
    assert (await door.ask()).role is Role.READ
    assert (await door.ask(address=FAR)).role is Role.METRICS
    assert await door.ask("hunter2", FAR) == Principal("", Role.ADMIN, proven=True)


async def test_by_the_socket_root_and_the_agents_user_are_admin_and_its_group_responds() -> None:
    door = Door(credentials(ops="admin"))
    for uid, role in ((0, Role.ADMIN), (1000, Role.ADMIN), (1001, Role.RESPOND)):
        found = await door.access.identify(by_socket(uid))
        assert found == Principal(f"u{uid}", role, proven=True)
    assert (await door.access.identify(by_socket(None))).role is Role.RESPOND


async def test_a_directory_of_users_that_hangs_keeps_nobody_from_answering() -> None:
    free = threading.Event()

    def hang(uid: int) -> str:
        free.wait()
        return "li"

    names = ThreadPoolExecutor(1)
    access = Access(Credentials, lambda: 0.0, hang, 1000, names=names)
    try:
        asked = asyncio.ensure_future(access.identify(by_socket(1001)))
        found = await asyncio.wait_for(asked, WAIT_SECONDS * 20)
        assert found == Principal("user 1001", Role.RESPOND, proven=True)
    finally:
        free.set()
        names.shutdown()


async def test_what_a_file_says_is_known_soon_and_read_seldom() -> None:
    door = Door(credentials(old="read"))
    for _ in range(50):
        await door.access.identify(request("old"))
    assert door.reads == 1
    door.known = credentials(new="read")
    assert (await door.ask("old")).role is Role.METRICS
    assert (await door.ask("new")).role is Role.READ


async def test_while_the_disk_hangs_what_was_read_last_holds() -> None:
    free, known = threading.Event(), credentials(li="respond")
    now, hanging = 0.0, False

    def load() -> Credentials:
        if hanging:
            free.wait()
        return known

    files = ThreadPoolExecutor(1)
    access = Access(load, lambda: now, str, 1000, files=files)
    try:
        assert (await access.identify(request("li"))).role is Role.RESPOND
        now, hanging = 10.0, True
        first = asyncio.ensure_future(access.identify(request("li")))
        assert (await asyncio.wait_for(first, WAIT_SECONDS * 20)).role is Role.RESPOND
        now += WAIT_SECONDS
        for _ in range(100):  # nobody waits for it any more
            assert (await access.identify(request("li"))).role is Role.RESPOND
    finally:
        free.set()
        files.shutdown()


async def test_nobody_comes_in_before_the_files_were_read() -> None:
    free = threading.Event()
    files = ThreadPoolExecutor(1)
    access = Access(lambda: (free.wait(), Credentials())[1], lambda: 0.0, str, 0, files=files)
    try:
        assert (await access.identify(request())).role is Role.METRICS
        assert (await access.identify(by_socket(0))).role is Role.ADMIN
    finally:
        free.set()
        files.shutdown()


async def test_wrong_tokens_are_bounded_and_shut_out_nobody_who_is_right() -> None:
    door = Door(credentials(li="respond"))
    wrong = [await door.access.identify(request(f"wrong {n}")) for n in range(100)]
    said = [who.refusal[0] for who in wrong if who.refusal]
    assert said == ["unauthorized"] * 20 + ["too_many_requests"] * 80
    assert (await door.access.identify(request("li"))).role is Role.RESPOND
    elsewhere = await door.access.identify(request("wrong", FAR))
    assert elsewhere.refusal is not None and elsewhere.refusal[0] == "unauthorized"


def test_an_address_may_be_wrong_again_after_a_while() -> None:
    now = 0.0
    limit = FailureLimit(lambda: now)
    assert [limit.exceeded("a") for _ in range(22)] == [False] * 20 + [True] * 2
    now = 1.0
    assert [limit.exceeded("a"), limit.exceeded("a")] == [False, True]
    now = 100.0
    assert [limit.exceeded("a") for _ in range(21)] == [False] * 20 + [True]


def test_the_addresses_that_are_remembered_have_a_bound() -> None:
    limit = FailureLimit(lambda: 0.0)
    for number in range(20_000):
        limit.exceeded(str(number))
    assert len(limit._full_at) == 10_000
    for _ in range(20):
        limit.exceeded("0")
    assert limit.exceeded("0")


async def test_no_token_stands_in_a_log_a_refusal_or_a_repr(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    door = Door(credentials(**{"tocsin_right": "admin"}))
    found = [await door.ask("tocsin_wrong"), await door.ask("tocsin_right")]
    shown = f"{found[0]!r} {door.known!r} {door.access!r} {caplog.text}"
    assert "tocsin_wrong" not in shown
    assert "wrong token refused" in shown
    assert "tocsin_right" not in repr(door.known)
