"""Vector → sequence: the system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lightning_rnn.errors import ConfigError, require
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.seq2seq.beam_options import BeamOptions
from lightning_rnn.seq2seq.losses import check_smoothing, shifted
from lightning_rnn.seq2seq.output import FullHead
from lightning_rnn.seq2seq.penalties import LengthPenalty
from lightning_rnn.seq2seq.samplers import Sampling
from lightning_rnn.training.module import Rows, Stage, StepResult, check_probability
from lightning_rnn.training.vectors import start_embedding
from lightning_rnn.types import SequenceBatch

from .decoding import DecodingOptions
from .encoders import EncoderKind
from .judging import Judge
from .mixture import MixtureHead
from .network import Entry, GeneratorCell, GeneratorNetwork, NetworkOptions
from .realized import realized
from .spec import GenerationSpec
from .writing import WritingModule

Decode = Literal["beam", "sample"]


class Generator(WritingModule):
    """Writes a text, or draws pen strokes, of a condition.

    Validation writes: ``val_exact``, of words ``val_bleu`` and of dialogue acts ``val_slot_error`` are those of real
    texts, and ``checkpoint.monitor`` and early stopping can watch them.

    Args:
        cell: of the recurrent layers: ``sc_lstm``, which reads the condition out as it writes, or one of
            :func:`lightning_rnn.layers.table.recurrent`.
        embedding_size: features of a token.
        hidden_size: units of each layer.
        num_layers: layers on top of each other; one with ``sc_lstm``.
        encoder: what a condition goes through first: ``identity``; ``dense``, a layer with tanh; ``cnn``, for images.
        encoder_size: features that ``dense`` and ``cnn`` put out.
        image_channels: of each convolution of ``cnn``; each halves the image.
        condition: how it enters: the first ``state`` of the layers, by a dense layer; every step's ``input``; ``both``.
            With ``sc_lstm`` it is the state's own, and ``input`` and ``both`` put it into the inputs too.
        embedding_dropout: share of the inputs' features dropped.
        dropout: share dropped before the head.
        label_smoothing: share of the target spread over all tokens, in training alone.
        mixtures: Gaussians of a stroke's density.
        alpha: of ``sc_lstm``: what the last output counts in the reading gate.
        reading_bias: of ``sc_lstm``: where the reading gate's bias starts.
        keep_first: of ``sc_lstm``: the entries that the data names as such (a dialogue act's type) are never read out.
        peek: of ``sc_lstm``: the gates see what is left of the condition.
        reading_weight: of ``sc_lstm``: what :func:`lightning_rnn.layers.conditioned_cells.reading_loss` of a row counts
            in the loss.
        eta: of it.
        xi: of it.
        initializer: of the recurrent weights, for ``simple_rnn``, ``lstm`` and ``gru``.
        vectors: file of word vectors (word2vec or GloVe) that the embedding of a text's tokens starts from.
        val_rows: validation writes of the first so many rows; 0: none.
        val_beam_size: of validation's beam search; 1 is greedy, and keeps the one text that it finds.
        decode: how `test`, `predict` and :meth:`write` write: by ``beam`` search, or ``sample``.
        beam_size: of the beam search.
        candidates: texts that the search gives, at most ``beam_size``, or samples that are drawn, to be ranked; None:
            ``beam_size``, or ``keep``.
        keep: so many best ones of them are judged in `test`; `predict` writes the best.
        slot_weight: what a slot too many or too few costs a dialogue act's text, in the unit of scores (nats over the
            length penalty).
        binary_weight: the same for the words of a slot of yes and no, which RNNLG does not rank by.
        length_penalty: ``none``, ``wu`` or ``average``.
        length_alpha: of ``wu``.
        max_length: tokens, or strokes, at most.
        temperature: of samples.
        top_k: samples take the most probable so many tokens alone; 0: all.
        top_p: samples take the most probable tokens of this probability in all alone.
        sample_seed: of the samples.

    Raises:
        ConfigError: an option is out of range, or does not go with the others or the data.

    Example:
        >>> Generator(cell="lstm").hparams["condition"]
        'both'
    """

    def __init__(
        self,
        cell: GeneratorCell = "gru",
        embedding_size: int = 32,
        hidden_size: int = 64,
        num_layers: int = 1,
        encoder: EncoderKind = "dense",
        encoder_size: int = 32,
        image_channels: Sequence[int] = (16, 32),
        condition: Entry = "both",
        embedding_dropout: float = 0.0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        mixtures: int = 20,
        alpha: float = 0.5,
        reading_bias: float = 0.0,
        keep_first: bool = False,
        peek: bool = False,
        reading_weight: float = 1.0,
        eta: float = 1e-4,
        xi: float = 100.0,
        initializer: Initializer | None = None,
        vectors: str | None = None,
        val_rows: int = 200,
        val_beam_size: int = 1,
        decode: Decode = "beam",
        beam_size: int = 5,
        candidates: int | None = None,
        keep: int = 1,
        slot_weight: float = 0.0,
        binary_weight: float = 0.0,
        length_penalty: LengthPenalty = "average",
        length_alpha: float = 0.6,
        max_length: int = 60,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        sample_seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size, "num_layers": num_layers}
        sizes |= {"encoder_size": encoder_size, "mixtures": mixtures, "val_beam_size": val_beam_size}
        for name, size in sizes.items():
            require(size >= 1, f"model.{name} must be at least 1, got {size}")
        require(val_rows >= 0, f"model.val_rows must not be negative, got {val_rows}")
        require(candidates is None or candidates >= 1, f"model.candidates must be at least 1, got {candidates}")
        require(decode in get_args(Decode), f"model.decode is {decode!r}: use {', '.join(get_args(Decode))}")
        fits = decode == "sample" or candidates is None or candidates <= beam_size
        require(fits, f"model.candidates is {candidates} of a beam of {beam_size}: lower it, or raise model.beam_size")
        require(reading_weight >= 0, f"model.reading_weight must not be negative, got {reading_weight}")
        require(0 <= sample_seed < 2**31, f"model.sample_seed must be from 0 to 2147483647, got {sample_seed}")
        for name, share in (("embedding_dropout", embedding_dropout), ("dropout", dropout)):
            check_probability(f"model.{name}", share)
        check_smoothing(label_smoothing)
        self.save_hyperparameters()
        self.options = NetworkOptions(
            cell=cell,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            encoder=encoder,
            encoder_size=encoder_size,
            image_channels=image_channels,
            condition=condition,
            embedding_dropout=embedding_dropout,
            dropout=dropout,
            mixtures=mixtures,
            alpha=alpha,
            reading_bias=reading_bias,
            keep_first=keep_first,
            peek=peek,
            eta=eta,
            xi=xi,
            initializer=initializer,
        )
        sampling = Sampling(temperature, top_k, top_p)
        self.decoding = DecodingOptions(
            beam=BeamOptions(beam_size, min(candidates or beam_size, beam_size), length_penalty, length_alpha),
            sampling=sampling if decode == "sample" else None,
            samples=candidates or keep,
            max_length=max_length,
            slot_weight=slot_weight,
            binary_weight=binary_weight,
            keep=keep,
        )
        self.quick = DecodingOptions(
            BeamOptions(val_beam_size, val_beam_size, length_penalty, length_alpha),
            max_length=max_length,
            slot_weight=slot_weight,
            binary_weight=binary_weight,
            keep=min(keep, val_beam_size),
        )
        self.label_smoothing, self.reading_weight, self.vectors = label_smoothing, reading_weight, vectors
        self.val_rows, self.sample_seed, self.temperature = val_rows, sample_seed, temperature

    def build(self, spec: GenerationSpec) -> GeneratorNetwork:  # type: ignore[override]  # its own spec
        if spec.kind == "tokens":
            self.judges.update({f"{stage}_stage": Judge(spec, stage == "test") for stage in ("val", "test")})
        return GeneratorNetwork(spec, self.options)

    def build_metrics(self, spec: GenerationSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        return MetricCollection({})

    def run_callbacks(self) -> list[pl.Callback]:
        from .callbacks import callbacks  # late: they need this module

        return [*super().run_callbacks(), *callbacks()]

    def start_from_files(self) -> None:
        """Start the embedding from the vectors file."""
        if self.vectors is None:
            return
        assert self.spec is not None
        if self.network.embedding is None:
            raise ConfigError("model.vectors starts an embedding of tokens: it needs texts, the data are pen strokes")
        start_embedding(self.network.embedding, self.vectors, self.spec.vocabulary)

    def step(self, batch: SequenceBatch) -> StepResult:
        conditions = batch.inputs[:, 0]
        if batch.targets is None:
            return StepResult(conditions.new_zeros(()), conditions, None, len(batch))
        assert self.spec is not None and batch.target_lengths is not None
        run = self.network(conditions, shifted(batch.targets, self.spec.first), batch.target_lengths)
        weight = float(batch.target_lengths.sum())
        loss = self._loss_of(run.hidden, batch)
        if run.reading is not None and self.reading_weight and self.training:
            loss = loss + self.reading_weight * run.reading.sum() / max(weight, 1.0)
        return StepResult(loss, run.hidden, batch.targets, weight)

    def _loss_of(self, hidden: Tensor, batch: SequenceBatch) -> Tensor:
        assert self.spec is not None and isinstance(batch.targets, Tensor)
        if self.spec.kind == "strokes":
            assert isinstance(self.network.head, MixtureHead) and batch.target_lengths is not None
            return self.network.head.loss(hidden, batch.targets, batch.target_lengths)
        assert isinstance(self.network.head, FullHead)
        smoothing = self.label_smoothing if self.training else 0.0
        return self.network.head.loss(hidden, batch.targets, label_smoothing=smoothing)

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``text`` and its ``score``, dialogue acts' without values; or ``strokes``, as JSON.

        Where several samples are kept, ``samples`` has them all, as a JSON list, the most probable first.
        """
        assert self.spec is not None
        vectors = batch.inputs[:, 0]
        numbers = torch.arange(len(batch)) if batch.ids is None else batch.ids
        if self.spec.kind == "strokes":
            drawn = self.drawn(vectors, numbers, self.temperature)
            return {"strokes": [json.dumps([[round(x, 4) for x in step] for step in one.tolist()]) for one in drawn]}
        found = self.written(vectors, numbers, self.decoding)
        rows: Rows = {"text": [row[0].text for row in found], "score": [row[0].score for row in found]}
        if self.decoding.sampling is not None and self.decoding.keep > 1:
            rows["samples"] = [json.dumps([one.text for one in row], ensure_ascii=False) for row in found]
        return rows

    def predict_step(self, batch: SequenceBatch, batch_idx: int = 0) -> Rows:
        """Columns of the predictions: ``id``, what :meth:`to_rows` gives, dialogue acts' texts with their values."""
        rows = super().predict_step(batch, batch_idx)
        parts = self.rows_of("predict")
        if parts is None or batch.ids is None or self.spec is None or self.spec.form != "act":
            return rows
        given = [parts.items.given[row] for row in batch.ids.tolist()[: len(rows["id"])]]
        texts = [realized(self.spec, act, [text])[0] for act, text in zip(given, rows["text"], strict=True)]
        return {"id": rows["id"], "act": given, **rows, "text": texts}
