"""Embeddings of the translator start from files of word vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightning_rnn.cli import main
from tasks.translation import Translator

RUN = "--model tasks.translation.Translator --data tasks.translation.TranslationData --data.joint false"
RUN += " --data.source tasks.translation.sources.Numbers --data.source.train 60 --data.source.val 10"
RUN += " --data.source.test 10 --data.source.highest 999 --data.tokenizer words --data.lower true --model.tying output"
RUN += " --model.embedding_size 3 --model.hidden_size 4 --model.val_sentences 0"
RUN += " --optimizer torch.optim.SGD --optimizer.lr 0.0 --trainer.max_epochs 1 --trainer.accelerator cpu"


def fit(folder: Path, options: str) -> int:
    return main(f"fit {RUN} --trainer.default_root_dir {folder}/run {options}".split())


def row(model: Translator, side: str, word: str) -> list[float]:
    tokenizer = getattr(model.codec, side)
    weight: torch.Tensor = getattr(model.network, f"{side}_embedding").weight
    return weight[tokenizer.pieces.index(word)].tolist()


def test_words_of_the_files_have_their_vectors_and_padding_is_zero(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("one 1 2 3\ntwo 4 5 6\n")
    (tmp_path / "fr.txt").write_text("vingt 7 8 9\nun 0 1 0\n")
    assert fit(tmp_path, f"--model.source_vectors {tmp_path}/en.txt --model.target_vectors {tmp_path}/fr.txt") == 0
    model = Translator.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt", map_location="cpu")
    assert row(model, "source", "two") == [4, 5, 6]
    assert row(model, "target", "vingt") == [7, 8, 9]
    assert model.network.source_embedding.weight[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "code", "parts"),
    [
        ("--model.target_vectors {0}/wide.txt", 2, ["vectors of 4 numbers", "model.embedding_size=4"]),
        ("--model.source_vectors {0}/absent.txt", 1, ["absent.txt"]),
        ("--model.tying all --model.source_vectors {0}/wide.txt", 2, ["shares target_vectors"]),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    tmp_path: Path, options: str, code: int, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wide.txt").write_text("vingt 7 8 9 1\n")
    assert fit(tmp_path, options.format(tmp_path)) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and all(part in said for part in parts), said
