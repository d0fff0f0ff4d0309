"""The key pressed in a call: by whom Twilio says, once, and only as Twilio says it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from support.api_client import api_client
from support.vendors.twilio import ACCOUNT, AUTH_TOKEN, CALLER, KeyPressed, TwilioDouble, spoken_by
from support.wired_agent import wired_agent
from tocsin_alerting.app import App
from tocsin_alerting.http import httpx
from tocsin_alerting.incidents.incident import IncidentState

LI, WANG = "+8613800000123", "+4915100000456"
PUBLIC = "https://tocsin.example.com"


def _config(api_url: str, to: str = "") -> str:
    step = "{receiver: phone}" if to else "{contact: li, via: [phone]}"
    return (
        f"external_url: {PUBLIC}\nrule_files: []\n"
        f'contacts: {{li: {{phone: "{LI}"}}, wang: {{phone: "{WANG}"}}}}\n'
        f"receivers: {{phone: {{type: twilio_voice, account_sid: {ACCOUNT}, from: '{CALLER}',"
        f" auth_token_file: twilio.token, api_url: '{api_url}', poll: 1ms{to}}}}}\n"
        f"policies: {{P0: {{steps: [{{notify: [{step}]}}]}}}}\n"
    )


@dataclass
class Called:
    app: App
    client: httpx.AsyncClient
    twilio: TwilioDouble

    async def fire(self, name: str = "X") -> int:
        """Until the call was made; which of them it is."""
        alerts = [{"labels": {"alertname": name, "severity": "P0"}}]
        assert (await self.client.post("/api/v2/alerts", json=alerts)).status_code == 200
        await self.app.delivery_loop.collect()
        await self.app.delivery_loop.idle()
        return len(self.twilio.made) - 1

    def key(self, call: int = -1, digits: str = "1", sid: str = "") -> KeyPressed:
        return KeyPressed(self.twilio.made[call], sid or f"CA{call:032d}", digits)

    async def press(self, key: KeyPressed, token: str = AUTH_TOKEN, **more: Any) -> httpx.Response:
        path = key.url.removeprefix(PUBLIC)
        headers = {**key.headers(token), **more}
        return await self.client.post(path, headers=headers, content=urlencode(key.fields))

    async def incident(self, number: int = 1) -> dict[str, Any]:
        got: dict[str, Any] = (await self.client.get(f"/api/v1/incidents/{number}")).json()["data"]
        return got


@asynccontextmanager
async def called(folder: Path, to: str = "") -> AsyncIterator[Called]:
    (folder / "twilio.token").write_text(AUTH_TOKEN)
    async with TwilioDouble("ringing", "in-progress") as twilio:
        with wired_agent(folder, _config(twilio.api_url, to)) as app:
            (folder / "data").mkdir()
            app.setup.begin()
            await app.start()
            async with api_client(app.routes()) as client:
                yield Called(app, client, twilio)
            await app.close()


async def test_one_acknowledges_in_the_name_of_the_contact(tmp_path: Path) -> None:
    async with called(tmp_path) as agent:
        await agent.fire()
        answer = await agent.press(agent.key())
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/xml")
        assert spoken_by(answer.text) == ["Acknowledged. You have it"]
        incident = await agent.incident()
        assert (incident["state"], incident["owner"]) == (IncidentState.ACKED, "li")


async def test_another_key_is_asked_for_again_and_does_nothing(tmp_path: Path) -> None:
    async with called(tmp_path) as agent:
        await agent.fire()
        answer = await agent.press(agent.key(digits="2"))
        assert "<Gather" in answer.text and agent.key().url.split("?")[0] in answer.text
        assert (await agent.incident())["state"] == IncidentState.TRIGGERED
        assert "Acknowledged" in (await agent.press(agent.key())).text


async def test_what_twilio_did_not_sign_says_and_does_nothing(tmp_path: Path) -> None:
    async with called(tmp_path) as agent:
        await agent.fire()
        right = agent.key()
        other_account, other_digit, other_url = agent.key(), agent.key(), agent.key()
        other_account.fields = {**right.fields, "AccountSid": "AC" + "9" * 32}
        changed = {**right.headers(), "Content-Type": "application/x-www-form-urlencoded"}
        other_digit.fields = {**right.fields, "To": WANG}
        other_url.url = right.url.replace("generation=1", "generation=9")
        path = right.url.removeprefix(PUBLIC)
        answers = [
            await agent.press(right, token="another"),
            await agent.press(other_account),
            await agent.client.post(path, headers=changed, content=urlencode(other_digit.fields)),
            await agent.client.post(
                other_url.url.removeprefix(PUBLIC), headers=changed, content=urlencode(right.fields)
            ),
            await agent.client.post(path, content=urlencode(right.fields)),
            await agent.client.post(path, json={"Digits": "1"}),
            await agent.client.post(
                path, headers={b"X-Twilio-Signature": b"\xff"}, content=b"\xff"
            ),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert {answer.text for answer in answers} == {
            "not signed by the telephone service, or no such link; nothing is done\n"
        }
        assert (await agent.incident())["state"] == IncidentState.TRIGGERED
        assert (await agent.client.get(path)).status_code == 405


async def test_a_call_answers_once(tmp_path: Path) -> None:
    """Whoever recorded the request, and sends it again when the incident was given back."""
    async with called(tmp_path) as agent:
        await agent.fire()
        key = agent.key()
        assert (await agent.press(key)).status_code == 200
        assert (await agent.client.post("/api/v1/incidents/1/unack", json={})).status_code == 200
        again = await agent.press(key)
        assert again.status_code == 403 and "answered already" in again.text
        assert (await agent.incident())["state"] == IncidentState.TRIGGERED


async def test_a_link_that_we_did_not_make_is_refused_though_signed(tmp_path: Path) -> None:
    async with called(tmp_path) as agent:
        await agent.fire()
        wrong = agent.key()
        token = urlsplit(wrong.url).path.split("/")[2]
        wrong.url = wrong.url.replace(token, token[:-2] + "AA")
        assert (await agent.press(wrong)).status_code == 404
        assert (await agent.incident())["state"] == IncidentState.TRIGGERED


async def test_who_has_it_already_is_said(tmp_path: Path) -> None:
    async with called(tmp_path) as agent:
        await agent.fire()
        body = {"by": "wang"}
        assert (await agent.client.post("/api/v1/incidents/1/ack", json=body)).status_code == 200
        (said,) = spoken_by((await agent.press(agent.key())).text)
        assert "wang" in said
        assert (await agent.incident())["owner"] == "wang"


async def test_what_is_over_is_over_and_what_reopened_is_another_matter(tmp_path: Path) -> None:
    async with called(tmp_path) as agent:
        await agent.fire()
        earlier = agent.key(sid="CA" + "f" * 32)
        earlier.url = earlier.url.replace("generation=1", "generation=0")
        (said,) = spoken_by((await agent.press(earlier)).text)
        assert "over" in said and (await agent.incident())["state"] == IncidentState.TRIGGERED
        assert (await agent.client.post("/api/v1/incidents/1/resolve", json={})).status_code == 200
        (said,) = spoken_by((await agent.press(agent.key())).text)
        assert "over" in said


@pytest.mark.parametrize(("number", "who"), [(WANG, "wang"), ("+15005550009", "phone …009")])
async def test_of_a_receivers_own_numbers_the_contact_or_the_last_digits(
    tmp_path: Path, number: str, who: str
) -> None:
    async with called(tmp_path, f", to: ['{number}']") as agent:
        await agent.fire()
        assert "Acknowledged" in (await agent.press(agent.key())).text
        assert (await agent.incident())["owner"] == who


async def test_strangers_are_not_heard_for_ever_and_twilio_still_is(tmp_path: Path) -> None:
    async with called(tmp_path) as agent:
        await agent.fire()
        wrong = [(await agent.press(agent.key(), token="no")).status_code for _ in range(25)]
        assert wrong[0] == 404 and wrong[-1] == 429
        assert (await agent.press(agent.key())).status_code == 200
        huge = await agent.client.post("/links/x/call", content=b"a=" + b"x" * 20_000)
        assert huge.status_code == 413
