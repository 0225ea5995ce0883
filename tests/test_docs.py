"""The examples of the documents run as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(name: str) -> list[str]:
    """Python blocks of a document that stand alone, which are those that import something."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    return [block for block in found if "import" in block]


def test_ten_lines_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("reviews.csv", "more_reviews.csv"):
        rows = "".join(
            f"a {'good' if i % 2 else 'bad'} film number {i},{'pos' if i % 2 else 'neg'}\n" for i in range(24)
        )
        (tmp_path / name).write_text("text,label\n" + rows)
    code = blocks("README.md")[0].replace("vocab_size=8000", "vocab_size=30")  # the texts are tiny
    names: dict[str, object] = {}
    exec(code, names)
    assert "model" in names


def test_own_cell_of_the_layers_page() -> None:
    (code,) = [block for block in blocks("docs/layers.md") if "class Decay" in block]
    exec(code, {})


def test_options_of_the_layers_page() -> None:
    (code,) = [block for block in blocks("docs/layers.md") if "LSTM(\n" in block]
    exec(code, {})


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_going_on_in_python_of_the_resume_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.sequence_classification import ClassificationData, SequenceClassifier

    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in blocks("docs/resume.md") if "newest_good" in block]
    code = code.replace(
        "pl.Trainer(", "pl.Trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=1, logger=False,"
    )
    before = "import pytorch_lightning as pl\nfrom pathlib import Path\n"
    for _ in range(2):
        exec(before + code, {"model": SequenceClassifier(hidden_size=4), "data": ClassificationData()})
    assert (tmp_path / "runs/mine/checkpoints/last.ckpt").is_file()


def test_every_config_of_the_table_of_kinds_is_there() -> None:
    named = re.findall(r"`(\w+/\w+\.yaml)`", (ROOT / "docs/kinds.md").read_text())
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "configs" / name).is_file()] == []
