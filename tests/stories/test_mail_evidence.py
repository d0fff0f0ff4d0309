"""A real agent mails what its rule read: value and threshold, and numbers of the machine."""

import asyncio
import re
from pathlib import Path

from support.agent_process import AgentProcess
from support.mailbox import Mailbox

CONFIG = """
evaluation_interval: 1s
collect: {{host: 1s, gpu: 0s, processes: 0s}}
worker: {{enabled: false}}
rule_files: [rules.yml]
templates: texts
receivers:
  mail: {{type: email, smarthost: "{smarthost}", tls: none, from: a@b.example, to: [c@d.example]}}
"""
RULES = """
groups:
- name: test
  rules:
  - alert: MemoryUsed
    expr: 1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes > 0.0001
    for: 3s
    labels: {severity: P1}
    annotations:
      summary: Memory is used.
      evidence: |
        Sockets: node_sockstat_sockets_used{instance="{{ $labels.instance }}"}
        node_load1
"""
FAILED = 'tocsin_template_failures_total{template="text.txt"} 1'


async def test_a_mail_has_value_threshold_and_the_numbers_that_the_rule_names(
    tmp_path: Path,
) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "subject.txt").write_text("{{ severity }}: {{ what }} ({{ numbers }})")
    (tmp_path / "texts" / "text.txt").write_text("{% for i in range(10**9) %}{% endfor %}x")
    async with Mailbox() as mailbox:
        config = tmp_path / "tocsin.yml"
        config.write_text(CONFIG.format(smarthost=mailbox.smarthost))
        agent = AgentProcess(tmp_path, f"--config.file={config}")
        try:
            await asyncio.to_thread(agent.start)
            async with asyncio.timeout(120):
                (letter,) = await mailbox.wait_for(1, 100)
            async with asyncio.timeout(60):
                while FAILED not in await asyncio.to_thread(agent.text, "/metrics"):
                    await asyncio.sleep(0.2)
        finally:
            agent.kill()
    assert letter.message["Subject"] == "P1: Memory is used. (#1)"
    body = letter.message.get_body(("plain",))
    assert body is not None
    text = body.get_content().replace("\r\n", "\n")
    assert re.search(r"^Value: [\d.]+% \(threshold > 0.01%\)$", text, re.M), text
    then = text.split("\nWhen it fired, at ")[1]
    assert re.match(r"\d\d:\d\d:\n  Sockets: \d+\S*\n  node_load1: [\d.]+\n", then), then
    assert "text.txt:1: refused: a power (**)" in agent.said()
