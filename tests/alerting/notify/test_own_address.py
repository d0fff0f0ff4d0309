"""A message must not go to the agent itself, nor to where clouds keep keys."""

import socket

import pytest

from support.notifications import NEW_YEAR_MS
from support.webhook_sink import WebhookSink
from tocsin_alerting.incidents.outbox_message import Delivered, Outcome, Permanent
from tocsin_alerting.notify.alertmanager import Alertmanager, AlertmanagerSettings
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.http_sender import HttpRequest, HttpSender, HttpSettings
from tocsin_alerting.notify.own_address import GuardedLookup, OwnAddresses, guarded_lookup
from tocsin_alerting.notify.secret import Vault

HERE = frozenset({"10.0.0.5", "fd00::5", "127.0.0.1", "::1"})


def _own(host: str = "", external_url: str = "", port: int = 4911) -> OwnAddresses:
    return OwnAddresses(host, port, "GPU-1", external_url, lambda: HERE)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://localhost:4911/", _own()),
        ("http://127.0.0.1:4911/hook", _own("127.0.0.1")),
        ("http://127.0.0.1:4911/hook", _own("0.0.0.0")),
        ("http://0.0.0.0:4911/", _own("127.0.0.1")),
        ("http://127.8.8.8:4911/", _own()),
        ("http://[::1]:4911/", _own("::")),
        ("http://[::ffff:127.0.0.1]:4911/", _own()),
        ("http://10.0.0.5:4911/api/v2/alerts", _own()),
        ("http://[fd00::5]:4911/", _own()),
        ("https://gpu-1:4911/", _own()),
        ("http://10.0.0.5:4911/", _own("10.0.0.5")),
        ("https://tocsin.example.com/hook", _own(external_url="https://tocsin.example.com")),
        ("https://ops.example.com/tocsin/x", _own(external_url="https://ops.example.com/tocsin/")),
        ("http://ops.example.com:80/", _own(external_url="http://ops.example.com")),
    ],
)
def test_what_is_seen_to_be_the_agent_is_an_error(url: str, own: OwnAddresses) -> None:
    with pytest.raises(ValueError, match="the agent's own address"):
        guarded_lookup("hook", url, own)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://localhost:9093/", _own()),
        ("http://10.0.0.5:4911/", _own("127.0.0.1")),
        ("http://127.0.0.1:4911/", _own("10.0.0.5")),
        ("http://10.0.0.6:4911/", _own()),
        ("https://gpu-2:4911/", _own()),
        ("https://ops.example.com/hook", _own(external_url="https://ops.example.com/tocsin")),
        ("https://ops.example.com/tocsin2", _own(external_url="https://ops.example.com/tocsin")),
        ("http://tocsin.example.com:81/", _own(external_url="http://tocsin.example.com")),
        ("http://127.0.0.1:80/", _own(port=0)),
    ],
)
def test_what_is_another_is_none(url: str, own: OwnAddresses) -> None:
    assert guarded_lookup("hook", url, own) is not None


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[fe80::1%25eth0]/"],
)
def test_link_local_addresses_are_refused_unless_allowed(url: str) -> None:
    with pytest.raises(ValueError, match="allow_link_local: true"):
        guarded_lookup("hook", url, _own())
    assert guarded_lookup("hook", url, _own(), allow_link_local=True) is not None


async def _by_name(
    address: str, port: int, own: OwnAddresses, allow_link_local: bool = False
) -> Outcome:
    """To a name that the resolver says is at `address`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target = (address, 0, 0, 0) if ":" in address else (address, 0)
    lookup = GuardedLookup(
        "hook",
        own,
        port,
        allow_link_local=allow_link_local,
        resolve=lambda name: [(family, target)],
    )
    url = f"http://somebody.example:{port}/"
    sender = HttpSender("hook", HttpSettings.model_validate({"timeout": "2s"}), url, lookup=lookup)
    outcome = await sender.send(
        HttpRequest(url), NEW_YEAR_MS, None, lambda answer, now_ms: answer.outcome(now_ms)
    )
    await sender.close()
    return outcome


async def test_a_name_that_leads_to_the_agent_is_refused_when_it_is_looked_up() -> None:
    async with WebhookSink() as sink:
        own = _own("127.0.0.1", port=sink.port)
        refused = await _by_name("127.0.0.1", sink.port, own)
        taken = await _by_name("127.0.0.1", sink.port, _own("127.0.0.1"))
    assert isinstance(refused, Permanent) and "the agent's own address" in refused.error
    assert "somebody.example" in refused.error
    assert isinstance(taken, Delivered) and len(sink.requests) == 1


async def test_a_name_that_leads_to_a_clouds_keys_is_refused() -> None:
    for address in ("169.254.169.254", "fe80::1"):
        refused = await _by_name(address, 9, _own())
        assert isinstance(refused, Permanent) and "allow_link_local" in refused.error


def test_alerts_are_not_forwarded_to_the_agent_itself() -> None:
    """It takes them as Alertmanager does: each would open an incident, which is forwarded."""
    settings = AlertmanagerSettings.model_validate(
        {"type": "alertmanager", "urls": ["http://am:9093", "http://localhost:4911"]}
    )
    deps = ChannelDeps(vault=Vault({}, lambda path: ""), own=_own())
    with pytest.raises(ValueError, match="the agent's own address"):
        Alertmanager("am", settings, deps)
