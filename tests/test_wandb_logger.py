"""W&B's logger without W&B: which mode is taken and why, which id, which folders, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.wandb_folder import BLOCK, Folders, Mode, RunRecord, choose_mode, has_key, with_environment
from lightning_rnn.training.wandb_logger import WandbLogger

CONFIGS = Path(__file__).parents[1] / "configs"
URL = "https://api.wandb.ai"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Folders, "_set", {})


@pytest.mark.parametrize(
    ("asked", "own", "key", "mode"),
    [
        ("auto", "online", False, "offline"),
        ("auto", "online", True, "online"),
        ("auto", "offline", True, "offline"),
        ("auto", "dryrun", True, "offline"),
        ("auto", "disabled", True, "disabled"),
        ("offline", "online", True, "offline"),
        ("online", "offline", True, "online"),
        ("disabled", "online", True, "disabled"),
    ],
)
def test_mode(asked: Mode, own: str, key: bool, mode: str) -> None:
    assert choose_mode(asked, own, key)[0] == mode


def test_online_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_mode(with_environment("auto"), "online", key=False)[0] == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    asks: tuple[Mode, ...] = ("auto", "online")
    for asked in asks:
        with pytest.raises(ConfigError, match="WANDB_API_KEY"):
            choose_mode(with_environment(asked), "online", key=False)
    assert with_environment("offline") == "offline"


def test_a_key_is_found_where_wandb_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key(URL, None)
    assert has_key(URL, "of a settings file")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine api.wandb.ai login user password {'a' * 40}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert has_key(URL, None)
    assert not has_key("https://another.example", None)
    netrc.write_text("machine\n")
    assert not has_key(URL, None)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert has_key(URL, None)


def test_the_id_stays_with_the_folder(tmp_path: Path) -> None:
    first = RunRecord(tmp_path)
    first.take(BLOCK)
    again = RunRecord(tmp_path)
    assert (again.id, again.rows) == (first.id, BLOCK)
    assert RunRecord(tmp_path / "other").id != first.id


def test_an_id_that_is_asked_for_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunRecord(tmp_path, "old").take(7)
    monkeypatch.setenv("WANDB_RUN_ID", "of the agent")
    assert (RunRecord(tmp_path).id, RunRecord(tmp_path).rows) == ("of the agent", 0)
    assert RunRecord(tmp_path, "mine").id == "mine"


@pytest.mark.parametrize("text", ["", "[]", '{"id": "a"}', '{"id": "a", "rows": "many"}'])
def test_a_broken_record_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json does not name a W&B run"):
        RunRecord(tmp_path)


def test_folders_are_the_runs_unless_the_user_has_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_CACHE_DIR", "/mine")
    for root in (tmp_path / "a", tmp_path / "b"):
        Folders.use(root)
        assert os.environ["WANDB_DATA_DIR"] == str(root / "wandb/data")
    assert os.environ["WANDB_CACHE_DIR"] == "/mine"


@pytest.mark.parametrize("key", ["gradients_every", "prediction_rows", "start_timeout", "finish_timeout"])
def test_values_out_of_range_are_refused(key: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"logger\.{key} must be"):
        WandbLogger(tmp_path, **{key: -1})  # type: ignore[arg-type]


def test_online_without_a_key_ends_the_command_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = f"--config {CONFIGS}/logger/wandb.yaml --trainer.logger.mode online --trainer.default_root_dir {tmp_path}"
    monkeypatch.setattr("wandb.setup", lambda: type("Setup", (), {"settings": _Settings()}))
    code = main(f"fit --config {CONFIGS}/sequence_classification/digits.yaml {overlay}".split())
    assert code == 2
    assert capsys.readouterr().err.startswith("error: W&B is asked to be online, but there is no API key")


class _Settings:
    mode, base_url, api_key = "online", URL, None
