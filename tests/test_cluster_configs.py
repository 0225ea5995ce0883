"""The files of configs/cluster are sound: every command in them is one of the program, numbers and names agree."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from lightning_rnn.cli import main
from lightning_rnn.distributed.slurm import slurm_environment

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs/cluster"
SCRIPTS = sorted([*FOLDER.glob("*.sbatch"), *FOLDER.glob("*.sh")])
JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_ARRAY_JOB_ID": "7",
    "SLURM_ARRAY_TASK_ID": "3",
}
GIVEN = {"CONFIG": "configs/sequence_classification/digits.yaml", "SWEEP": "configs/cluster/sweep.yaml"}


def examples(path: Path) -> list[list[str]]:
    """The words of the command lines in a file's first comments."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("#   ")]
    text = re.sub(r"\\\n#\s+", "", "\n".join(lines))
    commands = [line[4:].rpartition("   (")[0] or line[4:] for line in text.splitlines()]
    return [[GIVEN.get(word, word) for word in shlex.split(line)] for line in commands]


EXAMPLES = [(path.name, words) for path in sorted(FOLDER.iterdir()) for words in examples(path)]


def launched(script: Path, arguments: list[str], folder: Path, environment: dict[str, str]) -> list[list[str]]:
    """What a script runs: the words of each command, which stand-ins write down."""
    note = folder / "ran"
    for name in ("srun", "torchrun", "scontrol"):
        (folder / name).write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" {name} "$@" "" >> {note}\nexit ${{CODE:-0}}\n')
        (folder / name).chmod(0o755)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", str(script), *arguments], env=path | environment, check=False, capture_output=True)
    assert done.returncode == int(environment.get("CODE", 0)), done.stderr
    return [part.split("\n") for part in note.read_text().strip().split("\n\n")]


def program(words: list[str]) -> list[str]:
    return words[words.index("lightning-rnn") + 1 :]


def parsed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The configuration that these arguments of ``lightning-rnn`` make."""
    assert main([*arguments, "--print_config"]) == 0, capsys.readouterr().err
    loaded: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return loaded


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_it(path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize(("name", "words"), EXAMPLES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_first_lines_show_commands_that_work(
    name: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    if words[0] == "kubectl":
        assert (ROOT / words[-1]).is_file()
        return
    if "lightning-rnn" in words:
        if words[1] == "sweep" and "--index" not in words:
            assert main(words[1:]) == 0
            return
        arguments = program(words)
    else:
        at = next(index for index, word in enumerate(words) if word.startswith("configs/cluster/"))
        variables = dict(word.split("=", 1) for word in words[:at] if re.fullmatch(r"[A-Z_]+=.*", word))
        (ran,) = launched(ROOT / words[at], words[at + 1 :], tmp_path, JOB | variables)
        arguments = program(ran)
    assert parsed([*arguments, *_in(tmp_path, arguments)], capsys)["model"]


def _in(folder: Path, arguments: list[str]) -> list[str]:
    """Keeps a sweep's note out of the working folder."""
    return ["--folder", str(folder)] if arguments[0] == "sweep" else []


def test_a_job_of_slurm_trains_on_all_of_its_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (ran,) = launched(FOLDER / "slurm.sbatch", ["--config", GIVEN["CONFIG"]], tmp_path, JOB)
    trainer = parsed(program(ran), capsys)["trainer"]
    assert (trainer["num_nodes"], str(trainer["devices"])) == (2, "4")


@pytest.mark.parametrize(("name", "number"), [("slurm.sbatch", "7"), ("slurm_array.sbatch", "7_3")])
@pytest.mark.parametrize("code", [0, 1, 75, 137, 138])
def test_only_a_preemption_requeues_and_of_an_array_only_the_index(
    name: str, number: str, code: int, tmp_path: Path
) -> None:
    ran = launched(FOLDER / name, [], tmp_path, JOB | {"CODE": str(code)})
    assert ran[1:] == ([["scontrol", "requeue", number]] if code in (75, 138) else [])


def test_in_a_job_step_lightning_neither_requeues_nor_saves_in_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm_environment([]) == []
    monkeypatch.setenv("SLURM_NTASKS", "1")
    (environment,) = slurm_environment([])
    assert not environment.auto_requeue
    assert slurm_environment([LightningEnvironment()]) == []  # the user's choice
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert slurm_environment([]) == []  # torchrun in a job


def test_pods_of_kubernetes_make_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, job = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    (ran,) = launched(ROOT / container["command"][0], container["args"], tmp_path, environment)
    trainer = parsed(program(ran), capsys)["trainer"]
    nodes, devices = job["spec"]["completions"], container["resources"]["limits"]["nvidia.com/gpu"]
    assert job["spec"]["completionMode"] == "Indexed" and job["spec"]["parallelism"] == nodes
    assert (trainer["num_nodes"], int(trainer["devices"])) == (nodes, devices)
    assert {f"--nnodes={nodes}", f"--nproc-per-node={devices}"} < set(ran)
    name = service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None" and pod["subdomain"] == name
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    port = service["spec"]["ports"][0]["port"]
    assert f"--rdzv-endpoint={job['metadata']['name']}-0.{name}:{port}" in ran
    mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert set(mounted.values()) == {one["name"] for one in pod["volumes"]}
    for path in (trainer["default_root_dir"], environment["LIGHTNING_RNN_DATA"]):
        assert any(path.startswith(f"{mount}/") for mount in mounted)
