"""The examples of the documents run as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lightning_rnn.cli import VERBS, main
from lightning_rnn.plugins import COMMANDS, available

ROOT = Path(__file__).parents[1]


def blocks(name: str) -> list[str]:
    """Python blocks of a document that stand alone, which are those that import something."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    return [block for block in found if "import" in block]


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with small tables in ``data/``, where they are looked for by default."""
    monkeypatch.delenv("LIGHTNING_RNN_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("reviews.csv", "more_reviews.csv"):
        rows = "".join(
            f"a {'good' if i % 2 else 'bad'} film number {i},{'pos' if i % 2 else 'neg'}\n" for i in range(24)
        )
        (tmp_path / "data" / name).write_text("text,label\n" + rows)
    return tmp_path


def test_table_of_the_classification_page(reviews: Path) -> None:
    page = (ROOT / "docs/sequence_classification.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (reviews / "reviews.yaml").write_text(text.replace("max_epochs: 3", "max_epochs: 1"))
    (reviews / "data/new.csv").write_text("text\na good film\na bad film\n")
    for line in ("fit --config reviews.yaml", "predict --config reviews.yaml --data.source.predict new.csv"):
        assert line in page.replace("fit     ", "fit ")
        assert main(line.split()) == 0
    written = (reviews / "runs/sequence_classification/reviews/predictions.csv").read_text().splitlines()
    assert written[0] == "id,prediction,probability,p_neg,p_pos" and len(written) == 3


def test_help_names_every_verb_and_the_options_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert [verb for verb in (*VERBS, *available(COMMANDS)) if verb not in page] == []
    for line in re.findall(r"lightning-rnn (fit --\w+\.help [\w.]+)", page):
        assert main(line.split()) == 0
        assert "batch_size" in (found := capsys.readouterr().out) or "hidden_size" in found


def test_ten_lines_of_the_readme(reviews: Path) -> None:
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
