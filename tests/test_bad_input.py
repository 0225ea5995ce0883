"""Bad input of every kind, through what a user calls: one sentence, the right exit code, nothing half-written."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn import GRU, LSTM
from lightning_rnn.cli import main
from lightning_rnn.data import BucketBatchSampler, Ragged, SequenceDataset, SplitData, fetch, train_tokenizer, unpack
from lightning_rnn.data.module import Split
from lightning_rnn.data.tokenizer import SentencePieceTokenizer
from lightning_rnn.errors import CheckpointError, ConfigError, DataError, UserError
from lightning_rnn.functional import masked_max, masked_mean
from lightning_rnn.layers.pooling import AttentionPooling
from lightning_rnn.training import command
from lightning_rnn.training.carry import Carry
from lightning_rnn.training.checkpoints import AtomicCheckpointIO
from lightning_rnn.training.module import StepResult
from lightning_rnn.types import SequenceBatch
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.sequence_classification.data import ClassificationSpec

MODEL = "--model tasks.sequence_classification.SequenceClassifier --model.hidden_size 4 --model.embedding_size 4"
DATA = "--data tasks.sequence_classification.ClassificationData --data.baselines false --data.batch_size 4"
TRAINER = "--trainer.accelerator cpu --trainer.max_epochs 1 --trainer.limit_train_batches 2"
BASE = f"{MODEL} {DATA} {TRAINER} --trainer.default_root_dir RUN"
TEXT = f"{BASE} --data.tokenizer char --data.vocab_size 64 --data.source lightning_rnn.data.LabelledText"
CSV = f"{TEXT} --data.source.train train.csv --data.source.test test.csv"
SERIES = f"{BASE} --data.source lightning_rnn.data.TimeSeries --data.source.train"
ARRAYS = f"{BASE} --data.source lightning_rnn.data.NpzSeries --data.source.train a.npz"
LOCK = ".lock"  # tells who trains in a run folder, and stays there
YAML = f"model: {MODEL.split()[1]}\ndata: {DATA.split()[1]}\n"


@dataclass(frozen=True)
class Place:
    """Where a case happens; LIGHTNING_RNN_DATA names ``data``."""

    root: Path
    trained: Path  # a run folder to copy from
    patch: pytest.MonkeyPatch
    held: ExitStack  # files that are open until the case ends

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def state(self) -> dict[str, bytes]:
        files = (path for path in self.root.rglob("*") if path.is_file() and path.name != LOCK)
        return {str(path.relative_to(self.root)): path.read_bytes() for path in files}


Make = Callable[[Place], object]


@dataclass(frozen=True)
class Case:
    """``ends``: the exit code of a command, or what a call raises (None: nothing)."""

    name: str
    make: Make
    call: str | Make
    ends: int | type[Exception] | None
    words: tuple[str, ...]
    leaves: tuple[str, ...] = ()  # in the run folder, complete


def rows(n: int = 24, label: Callable[[int], str] = lambda i: ("neg", "pos")[i % 2]) -> list[str]:
    return ["text,label", *(f"a {('bad', 'good')[i % 2]} film number {i},{label(i)}" for i in range(n))]


def lines(*extra: str) -> bytes:
    return "".join(f"{line}\n" for line in [*rows(), *extra]).encode()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small run on texts."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_RNN_DATA", str(root))
        for name in ("train", "test"):
            (root / f"{name}.csv").write_bytes(lines())
        assert main(f"fit {CSV}".replace("RUN", str(root / "run")).split()) == 0
        yield root / "run"


@pytest.fixture
def place(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    held = ExitStack()
    found = Place(tmp_path, trained, monkeypatch, held)
    found.data.mkdir()
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(found.data))
    monkeypatch.chdir(found.data)
    for name in ("train", "test"):
        (found.data / f"{name}.csv").write_bytes(lines())
    with held:
        yield found


# How bad input is made


def nothing(place: Place) -> None: ...


def file(name: str, content: bytes | str) -> Make:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda place: (place.data / name).write_bytes(raw)


def train(*extra: str) -> Make:
    """Good rows, then these, the first of which is row 26."""
    return file("train.csv", lines(*extra))


def arrays(**named: object) -> Make:
    return lambda place: np.savez(place.data / "a.npz", allow_pickle=True, **named)  # type: ignore[arg-type]


def weights(place: Place) -> Path:
    return Path(shutil.copy(place.trained / "checkpoints" / "best.ckpt", place.data / "m.ckpt"))


def checkpoint(change: Callable[[dict[str, Any]], object]) -> Make:
    """The trained one, changed and saved as torch does."""

    def make(place: Place) -> None:
        content = torch.load(weights(place), weights_only=True)
        change(content)
        torch.save(content, place.data / "m.ckpt")

    return make


def spoiled(change: Callable[[bytes], bytes]) -> Make:
    def make(place: Place) -> None:
        path = weights(place)
        path.write_bytes(change(path.read_bytes()))

    return make


def flip(raw: bytes) -> bytes:
    """One bit of the largest weight's storage, which torch would load."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        info = max((one for one in archive.infolist() if "/data/" in one.filename), key=lambda one: one.file_size)
        place = raw.index(archive.read(info))
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def own(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["lightning_rnn"]
    return found


def resumable(make: Make = nothing) -> Make:
    """The run folder holds a run that was trained on other conditions than the command's."""

    def made(place: Place) -> None:
        shutil.copytree(place.trained, place.run)
        make(place)

    return made


def break_all(place: Place) -> None:
    for path in (place.run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-100])


def in_use(place: Place) -> None:
    place.run.mkdir()
    fcntl.flock(place.held.enter_context((place.run / LOCK).open("ab")), fcntl.LOCK_EX)
    place.patch.setattr(command, "lock_run", partial(command.lock_run, patience=0.0))


def environment(**values: str) -> Make:
    def make(place: Place) -> None:
        for name, value in values.items():
            place.patch.setenv(name, value)

    return make


def archive_of(name: str) -> Make:
    def make(place: Place) -> None:
        with tarfile.open(place.data / "a.tar.gz", "w:gz") as tar:
            tar.addfile(tarfile.TarInfo(name))
        with zipfile.ZipFile(place.data / "a.zip", "w") as packed:
            packed.writestr(name, "x")

    return make


def cut_archive(place: Place) -> None:
    archive_of("x.txt")(place)
    for path in place.data.glob("a.*"):
        path.write_bytes(path.read_bytes()[:-12])


# What is called where there is no command for it


class Given(ClassificationData):
    """Batches of rows that no source would give."""

    def __init__(self, inputs: list[Tensor], targets: Tensor, kind: str) -> None:
        super().__init__()
        self.given = SequenceDataset(Ragged.from_list(inputs), targets)
        self.given_spec = ClassificationSpec(kind, 5 if kind == "text" else 1, ["no", "yes"], [1, 1], 2, [0.0], [1.0])  # type: ignore[arg-type]

    def load(self, stage: str) -> Mapping[Split, SplitData]:  # type: ignore[override]
        self.spec = self.given_spec
        return {"train": self.given}


def trainer(place: Place, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "use_distributed_sampler": False}
    return pl.Trainer(accelerator="cpu", max_steps=1, default_root_dir=place.run, **quiet, **options)


def fit_on(targets: list[Any], inputs: list[list[Any]] | None = None, kind: str = "series") -> Make:
    sequences = [torch.tensor(row) for row in inputs or [[[0.0], [1.0]]] * len(targets)]

    def call(place: Place) -> None:
        data = Given(sequences, torch.tensor(targets), kind)
        trainer(place, limit_val_batches=0).fit(SequenceClassifier(hidden_size=4, embedding_size=4), data)

    return call


def save_with_path(place: Place) -> None:
    model = SequenceClassifier(hidden_size=4)
    model.hparams["folder"] = place.run
    running = trainer(place, plugins=[AtomicCheckpointIO()], limit_val_batches=0)
    running.fit(model, ClassificationData())
    running.save_checkpoint(place.run / "a.ckpt")


def rename(content: dict[str, Any]) -> None:
    content["state_dict"] = {f"other.{name}": value for name, value in content["state_dict"].items()}


def load_loosely(place: Place) -> None:
    SequenceClassifier.load_from_checkpoint(place.data / "m.ckpt", strict=False, weights_only=True)


def lstm(x: Tensor, *lengths: int) -> Make:
    return lambda place: LSTM(3, 5)(x, lengths=torch.tensor(lengths) if lengths else None)


def padding_alone(place: Place) -> None:
    """Defined results and gradients where there is nothing to look at."""
    x, mask = torch.randn(2, 4, 3, requires_grad=True), torch.zeros(2, 4, dtype=torch.bool)
    for pooled in (
        masked_mean(x, mask),
        masked_max(x, mask),
        AttentionPooling(3)(x, mask),
        LSTM(3, 5)(x, mask=mask).last,
    ):
        assert not pooled.any()
        (gradient,) = torch.autograd.grad(pooled.sum(), x)
        assert not gradient.any()


def no_steps(place: Place) -> None:
    for output in (GRU(3, 5)(torch.zeros(2, 0, 3)), GRU(3, 5)(torch.ones(2, 4, 3), lengths=torch.zeros(2).long())):
        assert not output.last.any() and not output.state.any()


def no_rows(place: Place) -> None:
    data = ClassificationData()
    data.setup("fit")
    model = SequenceClassifier(hidden_size=4)
    model.spec = data.spec
    model.configure_model()
    for batch in (data.split("val").__getitems__([]), SequenceBatch(torch.zeros(0, 8, 8), torch.zeros(0).long())):
        result = model.validation_step(batch, 0)
        assert result.loss == 0
        assert result.loss.requires_grad


def smaller_batch(place: Place) -> None:
    carry, layer = Carry(), GRU(3, 5)
    carry.keep(layer(torch.zeros(4, 2, 3)).state)
    carry.take(SequenceBatch(torch.zeros(3, 2, 3), starts=torch.tensor([True, False, False])))


def stateful(place: Place) -> None:
    layer = GRU(3, 5, stateful=True)
    for batch in (4, 3):
        layer(torch.zeros(batch, 2, 3))


def equal_counts(place: Place) -> None:
    """Processes that had unequal numbers of batches would wait for each other for ever."""
    for number in (5, 17, 64, 101):
        for options in ({"batch_size": 4}, {"batch_size": 50, "max_tokens": 30}):
            lengths = torch.arange(number) % 9 + 1
            of = [BucketBatchSampler(lengths, **options, shuffle=True, rank=r, world=3) for r in range(3)]
            batches = [list(one) for one in of]
            assert len({len(one) for one in batches}) == 1
            assert sorted(row for one in batches for batch in one for row in batch) == [*range(number)]


def missing_label(label: str) -> str:
    return f"the label {label!r} is not among the training labels (neg, pos)"


TEST = f"test {CSV} --ckpt_path m.ckpt"
GOOD = "text,label\nfine,pos\n"
CONFIG = "fit --config c.yaml --trainer.default_root_dir RUN"
CASES = [
    # files of text
    Case("latin-1", file("train.csv", lines("café,pos").decode().encode("latin-1")), f"fit {CSV}", 1,
         ("train.csv, line 26: byte", "(0xe9) is not utf-8", "encoding: latin-1")),
    Case("byte order mark, NA and null", file("new.csv", b"\xef\xbb\xbftext\nNA\nnull\n"),
         f"predict {TEXT} --data.source.predict new.csv --ckpt_path m.ckpt", 0, ("rows predict 2",)),
    Case("empty file", file("train.csv", ""), f"fit {CSV}", 1, ("train.csv has no rows", "put some in")),
    Case("header alone", file("train.csv", "text,label\n"), f"fit {CSV}", 1,
         ("train.csv has no rows under its header",)),
    Case("too many fields", train("a,b,c"), f"fit {CSV}", 1,
         ("train.csv, row 26: 3 fields", "first row has 2", "mend")),
    Case("too few fields", train("a"), f"fit {CSV}", 1, ("train.csv, row 26: 1 fields", "first row has 2", "mend")),
    Case("open quote", train('"a,pos'), f"fit {CSV}", 1, ("train.csv, row 26: a quote is not closed", "mend it")),
    Case("NUL", train("a\0,pos"), f"fit {CSV}", 1, ("train.csv, line 26: a NUL character", "clean it")),
    Case("column in other case", file("train.csv", "Text,label\na,b\n"), f"fit {CSV}", 1,
         ("train.csv, row 2: no column 'text', only 'Text', 'label': did you mean 'Text'?",)),
    Case("column twice", file("train.csv", "text,label,text\na,b,c\n"), f"fit {CSV}", 1,
         ("train.csv, row 1: the column 'text' is there 2 times: rename one",)),
    Case("labels in two ways", file("train.csv", "text,label\na,1\nb,1.0\nc,one\n"), f"fit {CSV}", 1,
         ("train.csv, row 4, column 'label': the label is the word 'one'", "in row 2", "'1'", "in one way")),
    Case("empty text", train("  ,pos"), f"fit {CSV}", 1,
         ("train.csv, row 26, column 'text': the text is empty", "fill")),
    Case("half a surrogate pair", file("t.jsonl", '{"text": "a \\ud83d", "label": "pos"}\n'),
         f"fit {TEXT} --data.source.train t.jsonl", 1, ("t.jsonl, row 1, column 'text'", "U+D83D", "whole character")),
    Case("no text", lambda p: polars.DataFrame({"text": ["a", None], "label": [1, 2]}).write_parquet("t.parquet"),
         f"fit {TEXT} --data.source.train t.parquet", 1,
         ("t.parquet, row 2, column 'text': the text is null", "write")),
    Case("much is unknown", file("new.csv", "text\nвесьма хорошо\n"),
         f"predict {TEXT} --data.source.predict new.csv --ckpt_path m.ckpt", 0,
         ("new.csv: ", "% of the tokens are unknown")),
    Case("longer than max_length", nothing, f"{TEST} --data.max_length 5", 0,
         ("test.csv: 24 of 24 rows cut to max_length 5",)),
    Case("no such file", nothing, f"fit {CSV} --data.source.train nowhere.csv", 1,
         ("no file", "data/nowhere.csv", "LIGHTNING_RNN_DATA")),
    Case("truncated gzip", file("t.csv.gz", gzip.compress(lines(), mtime=0)[:-9]),
         f"fit {TEXT} --data.source.train t.csv.gz", 1,
         ("t.csv.gz is not a whole gzip file", "download or copy it again")),
    Case("not gzip", file("t.csv.gz", lines()), f"fit {TEXT} --data.source.train t.csv.gz", 1,
         ("t.csv.gz is not a whole gzip file", "download or copy it again")),
    # labels and targets
    Case("label only in val", file("val.csv", f"{GOOD}so so,meh\n"), f"fit {CSV} --data.source.val val.csv", 1,
         ("val.csv, row 1", missing_label("meh"))),
    Case("label only in test", file("test.csv", f"{GOOD}so so,meh\n"), TEST, 1,
         ("test.csv, row 1", missing_label("meh"))),
    Case("one label", file("train.csv", GOOD), f"fit {CSV}", 1, ("train.csv", "label 'pos'", "two classes are needed")),
    Case("class number -1", nothing, fit_on([0, -1]), DataError,
         ("row 1 of the part: the class number -1", "of 2 classes (no, yes)", "number them from 0")),
    Case("class number too high", nothing, fit_on([0, 2]), DataError, ("row 1 of the part: the class number 2, of 2",)),
    Case("shares for classes", nothing, fit_on([[0.5, 0.5], [1.0, 0.0]]), DataError,
         ("classes must be int64 [2], got float32 [2, 2]", "give each row the number of its class")),
    Case("floats for classes", nothing, fit_on([0.0, 2.0]), DataError, ("classes must be int64 [2], got float32 [2]",)),
    Case("targets that broadcast", nothing,
         lambda p: StepResult(torch.zeros(()), torch.zeros(4, 1), torch.zeros(4), 4), DataError,
         ("targets [4] for predictions [4, 1]", "give both one shape")),
    # numbers
    Case("decimal comma", file("s.tsv", "1\t2\t3\n2\t0,5\t3\n"), f"fit {SERIES} s.tsv", 1,
         ("s.tsv, row 2, column 2: '0,5' is not a finite number", "write a decimal point")),
    Case("infinity in series", file("s.ts", "@classLabel true a b\n@data\n1,2:a\n1,inf:b\n"), f"fit {SERIES} s.ts", 1,
         ("s.ts, row 4, dimension 1, column 2: 'inf' is not a finite number",)),
    Case("infinity in arrays", arrays(x=np.array([[1, 2], [3, np.inf]]), y=np.array([0, 1])), f"fit {ARRAYS}", 1,
         ("a.npz, array 'x', row 2, step 2, feature 1: inf is not a finite number", "NaN where a value is missing")),
    Case("pickled objects in arrays", arrays(x=np.array([[1, Payload()]]), y=np.array([0])), f"fit {ARRAYS}", 1,
         ("a.npz, array 'x'", "Object arrays cannot be loaded", "without objects")),
    Case("gradient that is no number", nothing,
         f"fit {CSV} --trainer.max_epochs 2 --trainer.limit_train_batches 1 --optimizer SGD --optimizer.lr 1e38 "
         "--non_finite.action stop --trainer.limit_val_batches 0 --checkpoint.save_top_k 0", 1,
         ("epoch 2, batch 1 (loss ", ": a gradient is not a finite number", "run/non_finite.jsonl",
         "lower the learning"),
         ("checkpoints/last.ckpt", "config.yaml", "metrics.csv", "non_finite.jsonl")),
    # batches
    Case("no weight in a batch", nothing, f"fit {CSV} --data.batch_size 1 --model.class_weights [0.0,1.0]", 0,
         ("a batch without a valid element: its loss is 0",)),
    Case("padding alone", nothing, padding_alone, None, ()),
    Case("no steps", nothing, no_steps, None, ()),
    Case("no rows", nothing, no_rows, None, ("a batch without a valid element",)),
    Case("longer than the batch", nothing, lstm(torch.zeros(2, 4, 3), 4, 5), ValueError,
         ("LSTM: lengths must be in 0..4 (T), got 4..5",)),
    Case("lengths of other rows", nothing, lstm(torch.zeros(2, 4, 3), 4), ValueError,
         ("LSTM: expected lengths of shape [2], got [1]",)),
    Case("lengths of other rows in a batch", nothing,
         lambda p: SequenceBatch(torch.zeros(2, 4, 3), lengths=torch.tensor([4])), ValueError,
         ("SequenceBatch: lengths [1] for inputs [2, 4, 3]", "give [2]")),
    Case("carried to fewer rows", nothing, smaller_batch, DataError,
         ("a batch of 3 rows goes on from one of 4", "number of rows")),
    Case("kept for fewer rows", nothing, stateful, ValueError,
         ("the kept state has 4 rows, x has 3", "reset_states()")),
    Case("token id too high", nothing, fit_on([0, 1], [[4, 3], [2, 5]], "text"), DataError,
         ("row 1 of the part, step 2: the token id 5, of a vocabulary of 5", "use the tokenizer")),
    Case("token id -1", nothing, fit_on([0, 1], [[-1, 3], [2, 4]], "text"), DataError,
         ("row 0 of the part, step 1: the token id -1, of a vocabulary of 5",)),
    Case("float token ids", nothing, fit_on([0, 1], [[0.5, 3], [2, 4]], "text"), DataError,
         ("token ids must be int64 [B, T], got float32 [2, 2]", "encode the texts")),
    Case("float64 input", nothing, lstm(torch.zeros(2, 4, 3, dtype=torch.float64)), TypeError, ("float64", "float32")),
    # tokenizers
    Case("empty model", nothing, lambda p: SentencePieceTokenizer(b"", "unigram"), DataError,
         ("these 0 bytes are no SentencePiece model", "train one again")),
    Case("broken model in a checkpoint",
         checkpoint(lambda c: own(c)["spec"].update(tokenizer={"kind": "char", "model": "AAAA"})), TEST, 1,
         ("no SentencePiece model", "train one again")),
    Case("unknown tokenizer in a checkpoint",
         checkpoint(lambda c: own(c)["spec"].update(tokenizer={"kind": "newer"})), TEST, 1,
         ("a tokenizer of kind 'newer' is not one of unigram", "update this package")),
    Case("vocabulary too large", nothing, f"fit {CSV} --data.tokenizer unigram --data.vocab_size 5000", 2,
         ("vocab_size 5000 is too high for this text with unigram: at most",)),
    Case("id of no piece", nothing, lambda p: train_tokenizer(["a b"], "words").decode([4, 6]), DataError,
         ("id 6 is not one of this tokenizer's 6", "use the one that made it")),
    Case("another tokenizer than the checkpoint's", resumable(),
         f"fit {CSV} --ckpt_path last --data.tokenizer words", 1,
         ("the checkpoint was trained on other data: ", "Use the data it was trained on, or train anew")),
    # checkpoints
    Case("of another task", checkpoint(lambda c: own(c).update(task="tasks.translation")), TEST, 1,
         ("the checkpoint is of the task tasks.translation, this is tasks.sequence_classification",)),
    Case("of other sizes", weights, f"{TEST} --model.hidden_size 5", 1,
         ("differs from this configuration's in", "network.head.weight: (2, 4) there, (2, 5) here", "config.yaml")),
    Case("foreign, not strict", checkpoint(rename), load_loosely, CheckpointError,
         ("differs from", "network.head.weight: absent there")),
    Case("of another program", checkpoint(lambda c: c.pop("lightning_rnn")), TEST, 1, ("it names no task",)),
    Case("empty checkpoint", file("m.ckpt", ""), TEST, 1, ("m.ckpt is not a whole checkpoint", "last.ckpt")),
    Case("truncated checkpoint", spoiled(lambda raw: raw[: len(raw) // 2]), TEST, 1,
         ("m.ckpt is not a whole checkpoint",)),
    Case("text for a checkpoint", file("m.ckpt", "weights: none\n"), TEST, 1, ("m.ckpt is not a whole checkpoint",)),
    Case("flipped bit", spoiled(flip), TEST, 1, ("m.ckpt is damaged (checksum of", "take another")),
    Case("code in a checkpoint", checkpoint(lambda c: c.update(callbacks=Payload())), TEST, 1,
         ("m.ckpt holds more than tensors and plain values", "it was not loaded")),
    Case("path among hyper-parameters", nothing, save_with_path, CheckpointError,
         ("not saved, as it could not be loaded again", "PosixPath", "keep to numbers, strings")),
    Case("newer format", checkpoint(lambda c: own(c).update(format=99)), TEST, 1,
         ("the checkpoint has format 99", "update lightning-rnn")),
    Case("no checkpoint", nothing, f"test {CSV}", 1,
         ("no checkpoint", "run/checkpoints/best.ckpt", "train first (fit)")),
    # options
    Case("key misspelt", nothing, f"fit {CSV} --model.hidden_sise 3", 2,
         ("'hidden_sise'", "Did you mean 'hidden_size'?")),
    Case("key abbreviated", nothing, f"fit {CSV} --trainer.max_epoch 3", 2,
         ("max_epoch 3", "Did you mean 'max_epochs'?")),
    Case("option abbreviated", nothing, f"test {CSV} --ckpt_pat m.ckpt", 2,
         ("--ckpt_pat", "Did you mean 'ckpt_path'?")),
    Case("class misspelt", nothing, f"fit {CSV} --optimizer torch.optim.AdamWW", 2,
         ("'torch.optim.AdamWW'", "Did you mean 'AdamW'?")),
    Case("verb misspelt", nothing, f"fitt {CSV}", 2, ("'fitt'", "Did you mean 'fit'?")),
    Case("value that is no choice", nothing, f"fit {CSV} --model.cell lstn", 2, ("cell", "'lstm'", "lstn")),
    Case("key misspelt in a config", file("c.yaml", f"{YAML}trainer: {{max_epoch: 1}}\n"), CONFIG, 2,
         ("max_epoch", "Did you mean 'max_epochs'?")),
    Case("key twice in a config", file("c.yaml", "trainer:\n  max_epochs: 1\n  devices: 1\n  max_epochs: 2\n"),
         CONFIG, 2, ("c.yaml, line 4: the key 'max_epochs' is there already, in line 2", "take one out")),
    Case("tab in a config", file("c.yaml", "trainer:\n\tmax_epochs: 1\n"), CONFIG, 2,
         ("c.yaml, line 2, column 1", "\\t", "spaces")),
    Case("indented wrongly", file("c.yaml", "trainer:\n  devices: 1\n    max_epochs: 1\n"), CONFIG, 2,
         ("c.yaml, line 3", "not allowed here", "indent")),
    Case("config without options", file("c.yaml", "- a\n"), CONFIG, 2, ("c.yaml holds no options", "write one a line")),
    Case("config in latin-1", file("c.yaml", "# café\n".encode("latin-1")), CONFIG, 2,
         ("c.yaml: byte 5 (0xe9) is not utf-8",)),
    Case("no config", nothing, "fit --config nowhere.yaml", 2, ("nowhere.yaml",)),
    Case("no task", nothing, "fit --trainer.max_epochs 1", 2, ("required", "--config configs/TASK/NAME.yaml")),
    Case("no verb", nothing, "", 2, ("a verb is missing", "fit, validate, test, predict, tasks", "translate")),
    Case("verb of a task misspelt", nothing, "genrate", 2, ("no verb 'genrate'", "Did you mean 'generate'?")),
    Case("option of tasks misspelt", nothing, "tasks --chek", 2, ("knows --check alone, not --chek",)),
    Case("data of another task", nothing,
         f"fit {MODEL} {TRAINER} --data tasks.forecasting.ForecastingData --trainer.default_root_dir RUN", 2,
         ("SequenceClassifier does not take what ForecastingData gives", "give model and data of one task")),
    *(
        Case(f"{option} {value}", nothing, f"fit {CSV} --{option} {value}", 2, words)
        for option, value, words in (
            ("data.batch_size", "-1", ("data.batch_size must be at least 1, got -1",)),
            ("data.batch_size", "0", ("data.batch_size must be at least 1, got 0",)),
            ("data.max_length", "0", ("data.max_length must be at least 1, got 0",)),
            ("data.val_fraction", "1", ("data.val_fraction must be in [0, 1), got 1",)),
            ("model.hidden_size", "0", ("model.hidden_size must be at least 1, got 0",)),
            ("model.num_layers", "0", ("model.num_layers must be at least 1, got 0",)),
            ("model.dropout", "1.5", ("model.dropout must be between 0 and 1, got 1.5",)),
            ("model.conv_channels", "[0] --model.conv_kernels [3]", ("model.conv_channels must be at least 1 each",)),
            ("model.class_weights", "[1.0,-1.0]", ("model.class_weights must not be negative",)),
            ("model.class_weights", "[1.0]", ("model.class_weights has 1 entries, the data has 2 classes (neg, pos)",)),
            ("optimizer", "Adam --optimizer.lr -1", ("the optimizer does not take its options", "-1.0", "mend them")),
            ("lr_scheduler", "OneCycleLR --lr_scheduler.max_lr 1 --lr_scheduler.pct_start 2",
             ("the lr_scheduler does not take its options",)),
            ("seed_everything", "-1", ("seed_everything must be from 0 to 2**32 - 1, got -1",)),
            ("trainer.max_epochs", "-5", ("`max_epochs`", "-5")),
            ("trainer.max_epochs", "many", ("max_epochs", "Expected int. Got value: many",)),
            ("trainer.accelerator", "abacus", ("invalid accelerator name", "abacus")),
            ("trainer.strategy", "solo", ("invalid strategy name", "solo")),
            ("trainer.devices", "x", ("`devices`", "should be an int")),
            ("trainer.accumulate_grad_batches", "0", ("trainer.accumulate_grad_batches must be at least 1, got 0",)),
            ("trainer.check_val_every_n_epoch", "0", ("trainer.check_val_every_n_epoch must be at least 1, got 0",)),
            ("trainer.val_check_interval", "1000", ("`val_check_interval` (1000) must be less than",)),
            ("max_epochs", "5", ("Did you mean '--trainer.max_epochs'?",)),
            ("epochs", "5", ("Did you mean '--trainer.max_epochs'?",)),
            ("batch_size", "5", ("Did you mean '--data.batch_size'?",)),
            ("data.source", "Nothing", ("Expected the name or path of a class, not Nothing",)),
        )
    ),
    *(
        Case(f"unknown metric watched by {who}", nothing, f"fit {CSV} {options}", 2,
             (f"{who} watches 'val_los', which is not logged, only val_loss", "did you mean 'val_loss'?"),
             ("config.yaml", "metrics.csv"))
        for who, options in (
            ("ModelCheckpoint", "--checkpoint.monitor val_los"),
            ("EarlyStopping", "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val_los"),
            ("ReduceLROnPlateau", "--lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor val_los"),
        )
    ),
    # archives and downloads
    *(
        Case(f"truncated {end}", cut_archive, lambda p, end=end: unpack(p.data / f"a.{end}", p.data / "out"), DataError,
             (f"a.{end} is not a whole", "download or copy it again"))
        for end in ("tar.gz", "zip")
    ),
    *(
        Case(f"{end} that leads out", archive_of("../../x.txt"),
             lambda p, end=end: unpack(p.data / f"a.{end}", p.data / "out"), DataError,
             (f"a.{end} is not unpacked", "'../../x.txt' leads out of the folder", "take another archive"))
        for end in ("tar.gz", "zip")
    ),
    Case("no mirror has it", nothing, lambda p: fetch("x.txt", p.data / "in", [(p.data / "none").as_uri()]), DataError,
         ("could not download x.txt", "data/none/x.txt", "put it into")),
    Case("download into a file", nothing, lambda p: fetch("x.txt", p.data / "train.csv", [p.data.as_uri()]), DataError,
         ("cannot use", "train.csv", "LIGHTNING_RNN_CACHE")),
    Case("run folder in a file", nothing, f"fit {CSV} --trainer.default_root_dir train.csv/run", 1,
         ("cannot write to the run folder train.csv/run", "--trainer.default_root_dir")),
    # parts, processes and runs
    Case("same rows in train and val", nothing,
         f"fit {CSV} --data.source.val train.csv --trainer.limit_train_batches 1", 0,
         ("train.csv: 24 of 24 validation rows are training rows too", "say little")),
    Case("no rows in val", file("val.csv", "text,label\n"), f"fit {CSV} --data.source.val val.csv", 1,
         ("val.csv has no rows",)),
    Case("nothing to hold out", file("train.csv", "text,label\na,x\nb,y\nc,z\n"), f"fit {CSV}", 1,
         ("each of the 3 training rows is the only one of its class", "data.val_fraction 0")),
    Case("fewer rows than processes", nothing,
         lambda p: BucketBatchSampler(torch.ones(2).long(), 4, world=3), ConfigError,
         ("2 rows cannot be shared out over 3 processes", "use fewer processes")),
    Case("equal numbers of batches", nothing, equal_counts, None, ()),
    Case("other tasks than SLURM's", environment(SLURM_NTASKS="3", SLURM_JOB_NAME="x", SLURM_JOB_ID="1"),
         f"fit {CSV}", 2, ("`--ntasks=3`", "Use `--ntasks-per-node=3` instead")),
    Case("folder in use", in_use, f"fit {CSV}", 2, ("another process is training in", "run", "wait for it")),
    Case("folder holds a run", resumable(), f"fit {CSV}", 2, ("already holds a run", "go on with --ckpt_path last")),
    Case("folder holds a cluster's checkpoint", lambda p: (p.run.mkdir(), (p.run / "hpc_ckpt_1.ckpt").touch()),
         f"fit {CSV}", 2, ("run/hpc_ckpt_1.ckpt is not of this run", "move it away, or go on from it with")),
    Case("only broken checkpoints to go on from", resumable(break_all), f"fit {CSV} --ckpt_path last", 1,
         ("last.ckpt is not a whole checkpoint", "best.ckpt is not a whole checkpoint")),
    Case("resumed on other rows", resumable(file("train.csv", "\n".join([*rows()[:-4], *rows()[-2:], *rows()[-4:-2]]))),
         f"fit {CSV} --ckpt_path last --trainer.max_epochs 2", 1,
         ("the training part is not the one of the run to resume", "bring the same files back")),
    *(
        Case(f"resumed with another {name}", resumable(),
             f"fit {CSV} --ckpt_path last --trainer.max_epochs 2 --data.{name} 7", 2,
             (f"the run to resume had data.{name}={value}, now it is 7",))
        for name, value in (("batch_size", 4), ("seed", 0))
    ),
]  # fmt: skip


def outcome(call: str | Make, place: Place, capsys: pytest.CaptureFixture[str]) -> tuple[object, list[str]]:
    """How it ended, and its error lines."""
    if isinstance(call, str):
        code = main(call.replace("RUN", str(place.run)).split())
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return code, [line.removeprefix("error: ") for line in error.splitlines() if line.startswith("error: ")]
    try:
        call(place)
    except (UserError, ValueError, TypeError) as error:
        return type(error), [str(error)]
    return None, []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_sentence_and_harms_nothing(
    case: Case, place: Place, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    if isinstance(case.call, str) and "m.ckpt" in case.call and case.ends != 2:
        weights(place)
    case.make(place)
    before = place.state()
    capsys.readouterr()
    ended, errors = outcome(case.call, place, capsys)
    good = ended in (0, None)
    said = caplog.text if good else "".join(errors)
    assert ended == case.ends, said
    assert len(errors) == (0 if good else 1)
    assert good or "\n" not in said
    assert [words for words in case.words if words not in said] == [], said
    after = place.state()
    assert {name: after.get(name) for name in before} == before
    new = {name for name in after if name not in before}
    assert new == {f"run/{name}" for name in case.leaves} or (
        ended == 0 and all(name.startswith("run/") for name in new)
    )
    assert not [name for name in after if name.endswith((".tmp", ".part", ".bad"))]
    assert not (place.data / "pwned").exists()
