"""A file of word vectors starts the embedding of every task that reads words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_rnn.cli import main
from lightning_rnn.data.vectors import FileFormat, write_vectors
from lightning_rnn.interop.word2vec import WordTable
from tasks.generation import Generator
from tasks.language_modeling import LanguageModel
from tasks.sequence_classification import SequenceClassifier

WORDS = ["red", "blue"]
STILL = "--optimizer torch.optim.SGD --optimizer.lr 0.0 --trainer.max_epochs 1 --trainer.accelerator cpu"
TABLE = "text,label,color\n" + "a red rose,warm,red\na blue sea,cold,blue\n" * 12
CLASSES = "sequence_classification.SequenceClassifier --data tasks.sequence_classification.ClassificationData"
LANGUAGE = "language_modeling.LanguageModel --data tasks.language_modeling.LanguageData"
WRITING = "generation.Generator --data tasks.generation.GenerationData"
FILES = "train {0}.csv --data.source.val {0}.csv --data.source.test {0}.csv"
RUNS = {
    SequenceClassifier: f"{CLASSES} --data.tokenizer words --data.source lightning_rnn.data.LabelledText"
    f" --data.source.{FILES}",
    LanguageModel: f"{LANGUAGE} --data.batch_size 1 --data.chunk 5 --data.source lightning_rnn.data.TextColumn"
    f" --data.source.column text --data.source.{FILES}",
    Generator: f"{WRITING} --data.source tasks.generation.tables.AttributeTable --data.source.text text"
    f" --data.source.columns [color] --data.source.{FILES}",
}


@pytest.mark.parametrize(
    ("task", "form"), [(SequenceClassifier, "gensim"), (LanguageModel, "binary"), (Generator, "glove")]
)
def test_words_of_the_file_have_its_vectors(
    task: type[SequenceClassifier | LanguageModel | Generator], form: FileFormat, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text(TABLE)
    vectors, file = torch.tensor([[1.0, 2, 3], [4, 5, 6]]), tmp_path / ("vectors.kv" if form == "gensim" else "vectors")
    write_vectors(file, WordTable(WORDS, vectors), form)
    options = RUNS[task].format(tmp_path / "rows")
    run = f"fit --model tasks.{options} --model.embedding_size 3 --model.hidden_size 4 {STILL}"
    assert main(f"{run} --model.vectors {file} --trainer.default_root_dir {tmp_path}/run".split()) == 0
    model = task.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt", map_location="cpu")
    for word, vector in zip(WORDS, vectors, strict=True):
        assert torch.equal(embedded(model, word), vector)


def embedded(model: SequenceClassifier | LanguageModel | Generator, word: str) -> Tensor:
    assert model.spec is not None and model.network.embedding is not None
    words = model.spec.vocabulary if isinstance(model, Generator) else model.spec.load_tokenizer().pieces
    return model.network.embedding.weight[words.index(word)].detach()
