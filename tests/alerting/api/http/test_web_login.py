"""Who asks, where there is a web configuration: users, certificates, and tokens beside them."""

from typing import Any

import bcrypt
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from support.api_client import credentials
from support.web_pki import Pki
from tocsin_alerting.api.http.access import Access, AccessCheck, Credentials
from tocsin_alerting.api.http.envelope import success
from tocsin_alerting.api.http.roles import Principal, Role, RoleRoute, principal_of
from tocsin_alerting.api.http.server import application
from tocsin_alerting.api.http.web_login import WebLogin
from tocsin_exporter.basic_auth import PasswordCheck
from tocsin_exporter.threads import Threads
from tocsin_exporter.tls import ServerTls
from tocsin_exporter.web_config import LiveWebConfig, WebConfig

HASH = bcrypt.hashpw(b"one", bcrypt.gensalt(4)).decode()
LOCAL, FAR = "127.0.0.1", "10.0.0.7"
USERS = WebConfig(users={"li": HASH, "grafana": HASH, "ops": HASH})


def verifying() -> ServerTls:
    pki = Pki()
    return pki.server(client_auth="VerifyClientCertIfGiven", client_authorities=pki.authority)


def access(web: WebConfig, known: Credentials | None = None, open_reads: bool = False) -> Access:
    live = LiveWebConfig(lambda: web)
    login = WebLogin(
        live,
        PasswordCheck(live.users, lambda: 0.0, Threads(1, "bcrypt")),
        {"grafana": Role.READ, "li": Role.RESPOND, "prom-1": Role.READ},
    )
    return Access(lambda: known or Credentials(), lambda: 0.0, str, 1000, open_reads, login=login)


def client(
    web: WebConfig, known: Credentials | None = None, address: str = LOCAL, **more: Any
) -> TestClient:
    """An API of three roles, asked from `address`; `certificate` is the name in the client's."""

    async def who(request: Request) -> Any:
        found = principal_of(request)
        return success({"name": found.name, "role": found.role.name})

    paths = {"/metrics": Role.METRICS, "/api/r": Role.READ, "/api/w": Role.RESPOND}
    routes = [RoleRoute(path, who, role) for path, role in paths.items()]
    routes += [RoleRoute("/api/a", who, Role.ADMIN), RoleRoute("/-/ready", who, Role.HEALTH)]
    certificate = more.pop("certificate", None)
    checked = AccessCheck(application(routes), access(web, known, **more))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        shown = {} if certificate is None else {"client_certificate": certificate}
        server = {"server": ("127.0.0.1", 4911), "client": (address, 5)}
        await checked({**scope, **server, **shown}, receive, send)

    return TestClient(app)


def statuses(asking: TestClient, **sent: Any) -> list[int]:
    paths = ("/-/ready", "/metrics", "/api/r", "/api/w", "/api/a")
    return [asking.get(path, **sent).status_code for path in paths]


@pytest.mark.parametrize("address", [LOCAL, FAR])
def test_with_users_everybody_needs_one_for_all_but_health(address: str) -> None:
    asking = client(USERS, address=address)
    assert statuses(asking) == [200, 401, 401, 401, 401]
    assert statuses(asking, auth=("ops", "two")) == [200, 401, 401, 401, 401]
    assert statuses(asking, auth=("ops", "one")) == [200] * 5
    assert statuses(asking, auth=("li", "one")) == [200, 200, 200, 200, 403]
    assert statuses(asking, auth=("grafana", "one")) == [200, 200, 200, 403, 403]
    assert statuses(asking, auth=("nobody", "one")) == [200, 401, 401, 401, 401]


def test_the_refusal_asks_for_a_password_as_exporter_toolkit_does() -> None:
    for asking in (client(USERS), client(USERS, credentials(bot="read"))):
        for sent in ({}, {"auth": ("li", "two")}, {"headers": {"authorization": "Bearer x"}}):
            answer = asking.get("/api/r", **sent)
            assert answer.headers["www-authenticate"] == "Basic"
            assert "basic auth" in answer.json()["error"]
            assert "two" not in answer.text


def test_a_user_acts_under_his_name() -> None:
    answer = client(USERS).get("/api/w", auth=("li", "one")).json()["data"]
    assert answer == {"name": "li", "role": "RESPOND"}


def test_tokens_go_on_working_beside_users() -> None:
    asking = client(USERS, credentials(bot="read"), FAR)
    assert statuses(asking, headers={"authorization": "Bearer bot"}) == [200, 200, 200, 403, 403]
    assert statuses(asking, headers={"authorization": "Bearer x"}) == [200, 401, 401, 401, 401]
    assert statuses(asking, auth=("ops", "one")) == [200] * 5


def test_a_flood_of_wrong_passwords_is_told_to_wait() -> None:
    asking = client(USERS)
    told = [asking.get("/api/r", auth=("li", f"{n}")) for n in range(22)]
    assert [answer.status_code for answer in told] == [401] * 20 + [429] * 2
    assert told[-1].headers["retry-after"] == "1"


def test_opened_on_purpose_reads_need_no_password() -> None:
    asking = client(USERS, address=FAR, open_reads=True)
    assert statuses(asking) == [200, 200, 200, 401, 401]


def test_a_certificate_is_a_credential_where_there_are_no_users() -> None:
    web = WebConfig(tls=verifying())
    assert statuses(client(web, certificate="ops-1", address=FAR)) == [200] * 5
    assert statuses(client(web, certificate="prom-1")) == [200, 200, 200, 403, 403]
    asking = client(web, credentials(bot="read"), certificate="ops-1")
    assert statuses(asking) == [200] * 5
    data = client(web, certificate="ops-1").get("/api/a").json()["data"]
    assert data == {"name": "ops-1", "role": "ADMIN"}


@pytest.mark.parametrize("address", [LOCAL, FAR])
def test_where_certificates_are_verified_one_without_scrapes_alone(address: str) -> None:
    asking = client(WebConfig(tls=verifying()), address=address)
    assert statuses(asking) == [200, 200, 401, 401, 401]
    assert asking.get("/api/r").headers["www-authenticate"].startswith("Bearer")


def test_with_users_a_certificate_opens_the_connection_alone() -> None:
    web = WebConfig(tls=verifying(), users=USERS.users)
    assert statuses(client(web, certificate="ops-1")) == [200, 401, 401, 401, 401]
    assert statuses(client(web, certificate="x"), auth=("ops", "one")) == [200] * 5


def test_tls_alone_proves_nobody() -> None:
    web = WebConfig(tls=Pki().server())
    assert statuses(client(web)) == [200] * 5
    assert statuses(client(web, address=FAR)) == [200, 200, 403, 403, 403]


def test_without_users_a_password_is_nothing() -> None:
    assert statuses(client(WebConfig()), auth=("li", "x")) == [200] * 5
    asking = client(WebConfig(), credentials(bot="read"))
    assert statuses(asking, auth=("li", "one")) == [200, 200, 401, 401, 401][:1] + [
        200,
        401,
        401,
        401,
    ]


async def test_who_is_right_may_call_us_by_any_name() -> None:
    sent = [(b"authorization", b"Basic b3BzOm9uZQ==")]
    scope = {"type": "http", "path": "/", "headers": sent, "client": (FAR, 5)}
    request = Request({**scope, "server": ("127.0.0.1", 4911)})
    assert await access(USERS).identify(request) == Principal("ops", Role.ADMIN, proven=True)
