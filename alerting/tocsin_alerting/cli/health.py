"""`alertctl health`: whether the agent is up and ready, for scripts and containers."""

import click

from tocsin_alerting.cli.client import Agent, fail, unreachable


@click.command()
@click.pass_obj
def health(agent: Agent) -> None:
    """Succeed when the agent is ready to page."""
    from tocsin_alerting.http import httpx

    try:
        url = agent.url.rstrip("/") + "/-/ready"
        response = httpx.get(url, timeout=agent.timeout, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        unreachable(f"no answer from the agent at {agent.url}: {error}")
    if response.status_code != 200:
        fail(response.text.strip() or f"HTTP {response.status_code}")
    print(response.text.strip())
