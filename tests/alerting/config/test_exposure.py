"""What other machines may see is said in one sentence, or there is nothing to say."""

from pathlib import Path

import pytest

from support.web_pki import Pki
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.exposure import doors, exposure
from tocsin_alerting.config.watching import WebSection
from tocsin_exporter.web_config import WebConfig

EVERYWHERE = "0.0.0.0:4911"


def config(**web: object) -> Config:
    return Config(web=WebSection.model_validate(web))


@pytest.mark.parametrize("address", ["127.0.0.1:4911", "localhost:4911", "[::1]:4911"])
def test_where_only_this_machine_connects_there_is_nothing_to_say(address: str) -> None:
    for is_open in (False, True):
        assert exposure(config(listen_address=address, open=is_open), (), False) == ""


@pytest.mark.parametrize("address", [EVERYWHERE, ":4911", "10.0.0.7:80", "[::]:4911"])
def test_without_credentials_it_is_closed(address: str) -> None:
    said = exposure(config(listen_address=address), (), False)
    assert said.startswith(f"CLOSED to other machines: {address} serves them /metrics and health")


def test_with_credentials_they_decide() -> None:
    assert exposure(config(listen_address=EVERYWHERE), (), True) == ""
    named = config(listen_address=EVERYWHERE, token_file=Path("token"))
    assert exposure(named, (), False) == ""


def test_what_is_open_is_said_whatever_the_credentials() -> None:
    for tokens in (False, True):
        said = exposure(config(listen_address=EVERYWHERE, open=True), (), tokens)
        assert said.startswith(f"OPEN: everybody who reaches {EVERYWHERE} reads incidents")


def test_the_command_line_comes_first() -> None:
    assert exposure(config(listen_address=EVERYWHERE), ["127.0.0.1:1"], False) == ""
    said = exposure(config(), ["127.0.0.1:1", "10.0.0.7:2", ":3"], False)
    assert said.startswith("CLOSED to other machines: 10.0.0.7:2, :3 serves")


def test_passwords_in_the_clear_are_said_where_others_can_connect(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text("basic_auth_users: {li: $2y$10$" + "x" * 53 + "}\n")
    where = config(listen_address=EVERYWHERE, config_file=file)
    assert exposure(where, (), True).startswith(f"UNENCRYPTED: anybody on the way to {EVERYWHERE}")
    opened = config(listen_address=EVERYWHERE, config_file=file, open=True)
    said = exposure(opened, (), True)
    assert said.startswith("OPEN: ") and "; UNENCRYPTED: " in said
    assert exposure(config(config_file=file), (), True) == ""
    file.write_text("nothing: {}\n")
    assert exposure(where, (), True) == "", "what is wrong in it is said elsewhere"


def test_what_is_asked_of_those_who_connect() -> None:
    pki = Pki()
    verified = {"client_authorities": pki.authority}
    required = pki.server(client_auth="RequireAndVerifyClientCert", **verified)
    given = pki.server(client_auth="VerifyClientCertIfGiven", **verified)
    assert doors(WebConfig()) == ""
    assert doors(WebConfig(tls=pki.server(), users={"a": "x", "b": "x"})) == (
        "https, basic auth for 2 users, also for /metrics"
    )
    assert doors(WebConfig(users={"a": "x"})) == "basic auth for 1 user, also for /metrics"
    assert doors(WebConfig(tls=required)) == "https, certificates of clients required"
    assert doors(WebConfig(tls=given)) == "https, certificates of clients accepted"
