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
