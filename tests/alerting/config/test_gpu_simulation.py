"""The file of a simulation: what it means, and what is wrong with it at its place."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.gpu_simulation import load_simulation
from tocsin_alerting.config.load import load
from tocsin_alerting.gpu_options import GpuOptions
from tocsin_alerting.listeners import WrongUsage
from tocsin_alerting.startup import UpOptions, config_reader, load_config
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter.simulation.machine import ConstantLoad, DailyLoad, Fault, StepLoad

ONE = "gpus: [{model: X, memory: 8GiB, load: 50}]\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "gpus.yml"
    path.write_text(text)
    return path


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    machine = load_simulation(
        written(
            tmp_path,
            """
driver: "580.1"
cuda: "13.1"
gpus:
  - {model: A, count: 2, memory: 80GiB, load: 12.5, profiling: true, mig: [3g.40gb, 1g.10gb]}
  - model: B
    memory: 24GiB
    load: {daily: {low: 10, high: 90, peak: "06:30"}}
    processes: [{pid: 7, name: vllm, memory: 20GiB, share: 50}]
  - {model: C, memory: 8GiB, load: {steps: [{for: 5m, percent: 1}, {for: 30s, percent: 100}]},
     ecc: true, nvlinks: 4}
faults:
  - {gpu: 0, xid: 79}
  - {after: 1m, for: 30s, gpu: 1, lost: true}
  - {after: 1m, gpu: 3, ecc: 2, corrected: true}
  - {gpu: 3, throttle: power_cap}
  - {gpu: 3, nvlink_down: 0}
  - {gpu: 2, hang: true}
  - {gpu: 2, temperature: 91}
""",
        )
    )
    assert [gpu.model for gpu in machine.gpus] == ["A", "A", "B", "C"]
    assert [gpu.load for gpu in machine.gpus[1:]] == [
        ConstantLoad(0.125),
        DailyLoad(0.1, 0.9, 6.5 * 3600),
        StepLoad(((300, 0.01), (30, 1))),
    ]
    assert [(one.name, one.memory) for one in machine.gpus[0].mig] == [
        ("3g.40gb", 40 << 30),
        ("1g.10gb", 10 << 30),
    ]
    assert (machine.driver, machine.cuda) == ("580.1", 13010)
    assert machine.process_names == {7: "vllm"}
    assert machine.faults == (
        Fault("xid", 0, 0, math.inf, 79),
        Fault("lost", 1, 60, 30, 1),
        Fault("ecc", 3, 60, math.inf, 2, corrected=True),
        Fault("throttle", 3, 0, math.inf, 4),
        Fault("nvlink_down", 3, 0, math.inf, 0),
        Fault("hang", 2, 0, math.inf, 1),
        Fault("temperature", 2, 0, math.inf, 91),
    )


CASES = {
    "": '1:1: "gpus" is missing; add it',
    "gpus: []": "1:7: gpus: ",
    "gpus: [{modle: X, memory: 8GiB, load: 50, model: X}]": (
        '1:9: unknown key "gpus.0.modle"; did you mean "model"?'
    ),
    "gpus: [{model: X, memory: 8GB, load: 50}]": "1:27: gpus.0.memory: not a size",
    "gpus: [{model: X, memory: 8GiB, load: 150}]": "gpus.0.load",
    "gpus: [{model: X, memory: 8GiB, load: {}}]": (
        "1:39: gpus.0.load: give a number of percent, daily, or steps"
    ),
    "gpus: [{model: X, memory: 8GiB, load: {daily: {low: 1, high: 2, peak: 25h}}}]": (
        '1:71: gpus.0.load.daily.peak: not a time of the day like "14:00" (UTC)'
    ),
    "gpus: [{model: X, memory: 8GiB, load: 1, mig: [1g10gb], profiling: true}]": (
        "1:48: gpus.0.mig.0: not a MIG profile like 1g.10gb"
    ),
    "gpus: [{model: X, memory: 8GiB, load: 1, mig: [1g.10gb]}]": (
        "1:8: gpus.0: a GPU with mig has profiling; add profiling: true"
    ),
    "gpus: [{model: X, memory: 8GiB, load: 1, count: 64}, {model: X, memory: 8GiB, load: 1}]": (
        "1:7: gpus: 65 GPUs; at most 64"
    ),
    ONE + "cuda: 12.8": "cuda",
    ONE + "faults: [{gpu: 0}]": "2:10: faults.0: say what goes wrong, one of xid, lost, hang",
    ONE + "faults: [{gpu: 0, xid: 79, lost: true}]": "2:10: faults.0: say what goes wrong",
    ONE + "faults: [{gpu: 1, xid: 79}]": "2:16: faults.0.gpu: the last GPU is 0",
    ONE + "faults: [{gpu: 0, ecc: 1}]": "2:16: faults.0.gpu: this GPU has no ecc",
    ONE + "faults: [{gpu: 0, nvlink_down: 0}]": "2:16: faults.0.gpu: this GPU has 0 nvlinks",
    ONE + "faults: [{gpu: 0, throttle: hw_termal}]": (
        '2:29: faults.0.throttle: unknown reason "hw_termal"; did you mean "hw_thermal"?'
    ),
    ONE + "faults: [{gpu: 0, after: soon, xid: 79}]": "2:26: faults.0.after: not a duration",
}


@pytest.mark.parametrize("text", CASES)
def test_what_is_wrong_is_said_at_its_place(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InvalidDocument) as refused:
        load_simulation(path)
    (problem,) = refused.value.problems
    assert CASES[text] in str(problem)
    assert str(problem).startswith(f"{path}:")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument):
        load_simulation(tmp_path)


def test_the_options(tmp_path: Path) -> None:
    assert GpuOptions().machine() is None
    machine = GpuOptions("bundled/h100-8x").machine()
    assert machine is not None and len(machine.gpus) == 8
    own = GpuOptions(str(written(tmp_path, ONE))).machine()
    assert own is not None and len(own.gpus) == 1
    with pytest.raises(WrongUsage, match='"bundled/h100"; did you mean "bundled/h100-8x"'):
        GpuOptions("bundled/h100").machine()
    with pytest.raises(WrongUsage, match="there are bundled/geforce-rtx, bundled/h100-8x"):
        GpuOptions("bundled/12345678901234").machine()
    assert GpuOptions("bundled/zzz").files == GpuOptions().files == {}
    assert GpuOptions("x.yml").files == {"--collector.gpu.simulate": Path("x.yml")}
    assert GpuOptions().hostname("a") == {}


@pytest.mark.parametrize(
    ("text", "by"),
    [
        ("receivers: {desk: {type: webhook, url: 'http://127.0.0.1:9/'}}", "desk"),
        ("alertmanagers: [{url: 'http://127.0.0.1:9'}]", "alertmanagers"),
        ("remote_write: [{url: 'http://127.0.0.1:9/w'}]", "remote_write"),
    ],
)
def test_a_reload_gives_simulated_gpus_no_way_to_people(tmp_path: Path, text: str, by: str) -> None:
    """Whoever gets the alerts or the samples may page by them, so nothing of it is taken."""
    file = tmp_path / "t.yml"
    file.write_text("heartbeats: {out: [{url: 'http://127.0.0.1:9/'}]}\n")
    options = UpOptions(file, gpu_simulate="bundled/h100-8x")
    reader = config_reader(options)
    running = reader.first(load_config(options), strict=True)
    file.write_text(f"version: 1\n{text}\n")
    with pytest.raises(ValueError, match=f"would page people .* by {by};"):
        reader.again(running, 0)
    drill = config_reader(replace(options, drill=True))
    assert drill.again(running, 0).text
    assert GpuOptions(hostname_label="Hostname").hostname("a") == {"Hostname": "a"}


def test_people_are_not_paged_for_gpus_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "t.yml"
    path.write_text('receivers: {desk: {type: webhook, url: "http://127.0.0.1:9/"}}')
    paging, silent = load(path, {}), Config()
    with pytest.raises(WrongUsage, match="by desk; take a configuration without .* --drill"):
        GpuOptions("bundled/h100-8x").check(paging)
    GpuOptions("bundled/h100-8x", drill=True).check(paging)
    GpuOptions("bundled/h100-8x").check(load(None, {}))
    GpuOptions().check(paging)
    with pytest.raises(WrongUsage, match="--drill goes with --collector.gpu.simulate"):
        GpuOptions(drill=True).check(silent)
