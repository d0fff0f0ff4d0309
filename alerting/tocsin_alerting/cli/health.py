"""`alertctl health`: whether the agent is up and ready, for scripts and containers."""

import click

from tocsin_alerting.cli.client import AgentClient, fail


@click.command()
@click.pass_obj
def health(agent: AgentClient) -> None:
    """Succeed when the agent is ready to page."""
    status, text = agent.ask("GET", "/-/ready")
    line = text.strip().partition("\n")[0][:200]
    if status != 200:
        fail(line or f"HTTP {status}")
    print(line)
