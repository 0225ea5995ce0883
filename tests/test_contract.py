"""Every installed task keeps the contract; every shipped YAML is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_rnn import plugins
from lightning_rnn.cli import main
from lightning_rnn.testing import check_task

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*/*.yaml"))
TASK_CONFIGS = [path for path in CONFIGS if path.parent.name in plugins.available()]


@pytest.mark.parametrize("name", plugins.available())
def test_task_keeps_the_contract(name: str) -> None:
    check_task(name)


@pytest.mark.parametrize("path", TASK_CONFIGS, ids=lambda path: path.stem)
def test_config_is_read_and_says_how_to_launch_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(path), "--print_config"]) == 0
    assert "class_path" in capsys.readouterr().out
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    for words in (f"--config configs/{path.parent.name}/{path.name}", "2 CPU cores", "reaches"):
        assert words in text, f"{path}: its header does not say {words!r}"
