"""Text with dollar signs is drawn as it is, by every task that draws text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_rnn.data import LabelledText, SequenceDataModule, TextLines
from tasks.language_modeling import LanguageData
from tasks.sequence_classification import ClassificationData
from tasks.translation import TranslationData
from tasks.translation.figures import Heat, draw_attention
from tasks.translation.sources import ParallelFiles

LINE = "of $_$ and $^ and 5 $"  # what matplotlib would read as two formulas, neither of them right


def language(folder: Path) -> SequenceDataModule:
    (folder / "a.txt").write_text(f"{LINE}\n" * 20)
    return LanguageData(TextLines(str(folder / "a.txt")), layout="rows", batch_size=2)


def classification(folder: Path) -> SequenceDataModule:
    (folder / "a.csv").write_text("text,label\n" + f"{LINE},yes\nwell,no\n" * 9)
    return ClassificationData(LabelledText(str(folder / "a.csv")), tokenizer="words")


def translation(folder: Path) -> SequenceDataModule:
    for side in ("en", "fr"):
        (folder / f"a.{side}").write_text(f"{LINE}\n" * 20)
    return TranslationData(ParallelFiles(str(folder / "a.{}"), str(folder / "a.{}")), tokenizer="words")


@pytest.mark.parametrize("make", [language, classification, translation])
def test_a_row_with_dollar_signs_is_drawn_as_it_is(make: object, tmp_path: Path) -> None:
    data = make(tmp_path)  # type: ignore[operator]
    data.setup("fit")
    figure = Figure()
    axes = figure.add_subplot()
    data.draw(axes, "train", 0)
    figure.savefig(tmp_path / "a.png")
    assert "$_$" in " ".join(text.get_text() for text in axes.texts)


def test_words_of_an_attention_map_are_drawn_as_they_are(tmp_path: Path) -> None:
    words = ["$_$", "$^$"]
    figure = draw_attention([[Heat("step", words, words, np.eye(2, dtype=np.float32))]], "test")
    figure.savefig(tmp_path / "a.png")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == words
