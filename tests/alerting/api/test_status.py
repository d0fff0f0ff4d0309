"""What runs here, as Grafana and people ask for it."""

from importlib.metadata import version

from support.api_client import api_client
from tocsin_alerting.api.status import routes


async def test_buildinfo_has_the_keys_of_prometheus() -> None:
    async with api_client(routes(dict)) as client:
        data = (await client.get("/api/v1/status/buildinfo")).json()["data"]
    wanted = {"version", "revision", "branch", "buildUser", "buildDate", "goVersion"}
    assert data.keys() == wanted
    assert data["version"] == version("tocsin")


async def test_what_the_agent_says_of_itself() -> None:
    async with api_client(routes(lambda: {"journal": "up"})) as client:
        answer = await client.get("/api/v1/status/tocsin")
    assert answer.json() == {"status": "success", "data": {"journal": "up"}}
