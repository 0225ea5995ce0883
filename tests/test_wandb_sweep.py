"""The sweep's command line, as W&B's agent would start it, is a fit that this program accepts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb.wandb_agent import Agent

from lightning_rnn.cli import main
from lightning_rnn.training.wandb_folder import RunRecord

ROOT = Path(__file__).parents[1]
SWEEPS = sorted((ROOT / "configs/sweeps").glob("*.yaml"))
RUN = "trial123"


def one_value(parameter: dict[str, Any]) -> Any:
    """A value that the sweep could draw."""
    if "values" in parameter:
        return parameter["values"][0]
    return parameter["value"] if "value" in parameter else (parameter["min"] + parameter["max"]) / 2


def drawn(sweep: dict[str, Any]) -> dict[str, Any]:
    return {name: one_value(parameter) for name, parameter in sweep["parameters"].items()}


def agents_command(sweep: dict[str, Any], macro: str = "${args}") -> list[str]:
    """What the agent starts for a trial, by W&B's own functions."""
    command = create_sweep_command([macro if part == "${args}" else part for part in sweep["command"]])
    filled = create_sweep_command_args({"args": {name: {"value": one} for name, one in drawn(sweep).items()}})
    filled |= {"env": ["/usr/bin/env"], "program": [sweep["program"]], "interpreter": ["python"]}
    parts = [filled[part[2:-1]] if part.startswith("${") else [part] for part in command]
    return [word for words in parts for word in words]


def started(command: list[str], tmp_path: Path) -> list[str]:
    """The arguments with which ``lightning-rnn`` is called in the end."""
    (tmp_path / "lightning-rnn").write_text(f'#!{sys.executable}\nimport sys\nprint("\\0".join(sys.argv[1:]))\n')
    (tmp_path / "lightning-rnn").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_RUN_ID": RUN}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    return done.stdout.rstrip("\n").split("\0")


def parsed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*argv, "--print_config"]) == 0
    text = capsys.readouterr().out
    config: dict[str, Any] = yaml.safe_load(text[text.index("seed_everything") :])
    return config


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: str(path.stem))
def test_a_trial_is_a_fit_with_its_values_in_a_folder_of_its_own(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    argv = started(agents_command(sweep), tmp_path)
    assert argv[0] == "fit"
    config = parsed(argv, capsys)
    assert config["trainer"]["logger"]["class_path"] == "lightning_rnn.training.wandb_logger.WandbLogger"
    assert config["trainer"]["default_root_dir"] == f"runs/sweeps/{path.stem}/{RUN}"
    assert config["ckpt_path"] == "last"
    for name, value in drawn(sweep).items():
        group, _, option = name.partition(".")
        assert config[group]["init_args"][option] == value, name
    assert sweep["metric"]["name"] == config["checkpoint"]["monitor"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: str(path.stem))
def test_without_values_a_boolean_is_no_option(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the YAML's header says of ``${args_no_boolean_flags}``: with it only trials without booleans run."""
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    booleans = [name for name, value in drawn(sweep).items() if isinstance(value, bool)]
    argv = started(agents_command(sweep, "${args_no_boolean_flags}"), tmp_path)
    if booleans:
        assert main([*argv, "--print_config"]) == 2
    for name in booleans:
        del sweep["parameters"][name]
    parsed(started(agents_command(sweep, "${args_no_boolean_flags}"), tmp_path), capsys)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: str(path.stem))
def test_only_macros_that_the_agent_knows_are_used(path: Path) -> None:
    command = yaml.safe_load(path.read_text())["command"]
    known = {*Agent.DEFAULT_SWEEP_COMMAND, "${args_no_boolean_flags}", "${args_no_hyphens}", "${args_json_file}"}
    assert {part for part in command if part.startswith("${")} <= known
    assert not any("${" in part for part in command if not part.startswith("${"))


def test_a_trial_has_the_id_that_the_agent_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", RUN)
    assert RunRecord(tmp_path).id == RUN
