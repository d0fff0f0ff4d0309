"""A night with a phone: a mail arrives, its link goes through a proxy below a path, and what is
pressed there stops the escalation, in the name of whom the mail was for."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from support.agent_process import AgentProcess
from support.mailbox import Letter, Mailbox
from support.served import served
from tocsin_alerting.api.http.roles import Role, RoleRoute
from tocsin_alerting.http import httpx

CONFIG = """\
collect: {{gpu: 0s, processes: 0s, host: 1s}}
evaluation_interval: 1s
engines: [{{url: "http://127.0.0.1:9"}}]
rule_files: [rules.yml]
external_url: "{outside}/bell/"
smtp: {{smarthost: "{smarthost}", tls: none, from: bell@example.com}}
contacts:
  li: {{email: li@example.com}}
  wang: {{email: wang@example.com}}
policies:
  P0:
    steps:
    - {{notify: [{{contact: li}}], escalate_after: 10m}}
    - {{notify: [{{contact: wang}}]}}
"""
RULES = """\
groups:
- name: g
  rules:
  - {alert: Down, expr: vector(1), labels: {severity: P0}, annotations: {summary: "It is down"}}
"""
LINK = re.compile(r"http://\S+/bell/links/\S+")
FORM = re.compile(r'name="form" value="([^"]+)"')
HOPS = {"host", "connection", "content-length", "transfer-encoding"}


def proxy(target: Callable[[], str]) -> RoleRoute:
    """Serves what is below `/bell/` from `target`, under the name of the target, as nginx does
    unless it is told otherwise."""

    async def passed_on(request: Request) -> Response:
        headers = [(n, v) for n, v in request.headers.items() if n not in HOPS]
        headers.append(("x-forwarded-for", "203.0.113.7"))
        async with httpx.AsyncClient() as client:
            answer = await client.request(
                request.method,
                f"{target()}/{request.path_params['path']}",
                params=str(request.query_params),
                headers=headers,
                content=await request.body(),
            )
        kept = {n: v for n, v in answer.headers.items() if n.lower() not in HOPS}
        return Response(answer.content, answer.status_code, kept)

    return RoleRoute("/bell/{path:path}", passed_on, Role.HEALTH, ["GET", "POST"])


@asynccontextmanager
async def phone_call(outside: str) -> AsyncIterator[httpx.AsyncClient]:
    """As a browser: it says from where a form comes, and follows where it is sent."""
    async with httpx.AsyncClient(headers={"origin": outside}, follow_redirects=True) as client:
        yield client


def links(letters: Sequence[Letter]) -> dict[str, str]:
    """By address, the link in the newest mail."""
    found = {}
    for letter in letters:
        body = letter.message.get_body(("plain",))
        assert body is not None
        found[letter.to[0]] = LINK.findall(body.get_content())[0]
    return found


async def test_a_night_with_a_phone(tmp_path: Path) -> None:
    agents: list[AgentProcess] = []
    async with Mailbox() as mail, served([proxy(lambda: agents[0].url)]) as outside:
        (tmp_path / "rules.yml").write_text(RULES)
        text = CONFIG.format(outside=outside, smarthost=mail.smarthost)
        (tmp_path / "tocsin.yml").write_text(text)
        agent = AgentProcess(tmp_path, "--config.file", "tocsin.yml", "--storage.path", "data")
        agents.append(agent)
        await asyncio.to_thread(agent.start)
        try:
            await _night(agent, mail, outside)
        finally:
            await asyncio.to_thread(agent.kill)
    said = agent.said()
    assert not any(link.rpartition("/")[2] in said for link in links(mail.messages).values())


async def _night(agent: AgentProcess, mail: Mailbox, outside: str) -> None:
    link = links(await mail.wait_for(1, 30))["li@example.com"]
    assert link.startswith(f"{outside}/bell/links/")
    async with phone_call(outside) as phone:
        page = await phone.get(link)
        assert page.status_code == 200 and "It is down" in page.text
        assert (await phone.head(link)).status_code == 200
        form = FORM.findall(page.text)[0]
        altered = link[:-1] + ("A" if link[-1] != "A" else "B")
        assert (await phone.get(altered)).status_code == 404
        assert (await phone.post(altered, data={"form": form, "do": "ack"})).status_code == 404
        # pressed again by one who is not sure, and after a kill
        for restart in (False, False, True):
            if restart:
                await asyncio.to_thread(agent.kill)
                await asyncio.to_thread(agent.start)
            done = await phone.post(link, data={"form": form, "do": "ack"})
            assert done.status_code == 200 and str(done.url) == f"{link}?done=ack"
            assert "You have it" in done.text
    story = await asyncio.to_thread(agent.get, "/api/v1/incidents/1")
    assert (story["state"], story["owner"]) == ("ACKED", "li")
    acked = [entry for entry in story["history"] if entry["event"] == "acked"]
    assert [(entry["actor"], entry["data"]["via"]) for entry in acked] == [("li", "link")]
    assert "step" not in {timer["kind"] for timer in story["timers"]}  # nobody is paged after him
    assert {message["contact"] for message in story["messages"]} == {"li"}
