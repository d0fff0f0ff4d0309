"""`tocsin up` on simulated GPUs: faults become alerts and pages that say what they are."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from support.agent_process import BIN, AgentProcess
from support.webhook_sink import WebhookSink

GPUS = """
gpus:
  - {model: NVIDIA H100 80GB HBM3, count: 4, memory: 80GiB, load: 60, ecc: true, profiling: true}
faults:
  - {after: 8s, gpu: 0, xid: 79}
  - {after: 2s, gpu: 1, lost: true}
  - {after: 2s, gpu: 2, temperature: 94}
  - {after: 2s, gpu: 2, throttle: hw_thermal}
  - {after: 3s, gpu: 3, ecc: 1}
"""
# Bundled rules' expressions without their patience; those on XIDs and memory are taken as they are.
RULES = """
groups:
- name: gpus
  rules:
  - {alert: Hot, expr: DCGM_FI_DEV_GPU_TEMP > 80, labels: {severity: P1}}
  - {alert: Missing, expr: gpu_devices_expected - gpu_devices > 0, labels: {severity: P1}}
  - alert: Throttled
    expr: gpu_throttle_active{reason="hw_thermal"} == 1
    labels: {severity: P2}
  - alert: Ecc
    expr: increase(DCGM_FI_DEV_ECC_DBE_VOL_TOTAL[1m]) > 0
    labels: {severity: P1}
"""
CONFIG = """
collect: {{gpu: 1s, processes: 0s, host: 0s}}
evaluation_interval: 1s
engines: [{{url: "http://127.0.0.1:9"}}]
rule_files: [rules.yml, bundled]
receivers: {{desk: {{type: webhook, url: "{url}"}}}}
"""
GPU_OF = {
    **{"Hot": "2", "Missing": None, "Throttled": "2"},
    **{"Ecc": "3", "GPUXidError": "0", "GPUMemoryFailing": "3"},
}
QUERIES = [  # dashboard 12239, word for word but for its variables
    'max(DCGM_FI_DEV_GPU_TEMP{Hostname=~"%s", gpu=~".+"}) by (Hostname, gpu, uuid)',
    'avg(DCGM_FI_DEV_GPU_TEMP{Hostname=~"%s", gpu=~".+"})',
    'max(DCGM_FI_DEV_POWER_USAGE{Hostname=~"%s", gpu=~".+"}) by (Hostname, gpu, uuid)',
    'sum(max(DCGM_FI_DEV_POWER_USAGE{Hostname=~"%s", gpu=~".+"}) by (gpu))',
    'max(DCGM_FI_DEV_SM_CLOCK{Hostname=~"%s", gpu=~".+"} * 1000000) by (Hostname, UUID, gpu)',
    'max(DCGM_FI_PROF_GR_ENGINE_ACTIVE{Hostname=~"%s", gpu=~".+"})'
    " by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)",
    'max(DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{Hostname=~"%s", gpu=~".+"})'
    " by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)",
    'max(DCGM_FI_DEV_FB_USED{Hostname=~"%s", gpu=~".+"})'
    " by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)",
]


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gpus.yml").write_text(GPUS)
    (tmp_path / "rules.yml").write_text(RULES)
    return tmp_path


def by_name(agent: AgentProcess) -> dict[str, dict[str, str]]:
    """The labels of each alert of ours."""
    found = [one["labels"] for one in agent.get("/api/v1/alerts")["alerts"]]
    return {one["alertname"]: one for one in found if one["alertname"] in GPU_OF}


async def test_faults_page_and_the_dashboard_finds_its_metrics(folder: Path) -> None:
    arguments = ("--config.file=t.yml", "--collector.gpu.simulate=gpus.yml", "--drill")
    named = ("--no-worker", "--collector.gpu.hostname-label=Hostname")
    async with WebhookSink() as sink:
        (folder / "t.yml").write_text(CONFIG.format(url=sink.url))
        agent = AgentProcess(folder, *arguments, *named)
        try:
            await asyncio.to_thread(agent.start)
            await until(lambda: by_name(agent).keys() == GPU_OF.keys())
            alerts = await asyncio.to_thread(by_name, agent)
            assert {name: labels.get("gpu") for name, labels in alerts.items()} == GPU_OF
            assert {labels.get("simulated") for labels in alerts.values()} == {"true"}
            await until(lambda: "GPUXidError" in paged(sink))
            assert '"simulated":"true"' in paged(sink).replace(": ", ":")
            for query in QUERIES:
                asked = urlencode({"query": query % alerts["Hot"]["Hostname"]})
                found = await asyncio.to_thread(agent.get, f"/api/v1/query?{asked}")
                assert found["result"], query
        finally:
            agent.kill()
    assert "the GPUs are SIMULATED, as gpus.yml says" in agent.said()


def paged(sink: WebhookSink) -> str:
    return "\n".join(request.body.decode() for request in sink.requests)


def test_nobody_is_paged_without_drill(folder: Path) -> None:
    (folder / "t.yml").write_text(CONFIG.format(url="http://127.0.0.1:9/"))
    flags = ["--config.file=t.yml", "--collector.gpu.simulate=gpus.yml"]
    command = [str(BIN / "tocsin"), "up", *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "would page people for GPUs that are not there, by desk" in done.stderr
