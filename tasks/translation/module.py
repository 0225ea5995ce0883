"""Sentence → sentence: the system."""

from __future__ import annotations

from dataclasses import replace

import pytorch_lightning as pl
from torchmetrics import MetricCollection

from lightning_rnn.data.module import Split
from lightning_rnn.data.tokenizer import BOS, PAD
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.layers.engines import Engine
from lightning_rnn.layers.initializers import Initializer
from lightning_rnn.layers.table import CellName
from lightning_rnn.seq2seq.attention import AttentionKind
from lightning_rnn.seq2seq.beam_options import BeamOptions, StopRule
from lightning_rnn.seq2seq.bridges import BridgeKind
from lightning_rnn.seq2seq.decoders import DecoderKind
from lightning_rnn.seq2seq.heads import HeadKind
from lightning_rnn.seq2seq.losses import check_smoothing, shifted
from lightning_rnn.seq2seq.penalties import LengthPenalty
from lightning_rnn.seq2seq.schedules import Schedule, ScheduleKind
from lightning_rnn.training.module import Rows, SequenceModule, Stage, StepResult
from lightning_rnn.types import SequenceBatch

from .data import TranslationRows
from .decoding import NO_COVERAGE, DecodingOptions, TextTranslator, Translation, readable, search
from .judging import Judged, Judges, TranslatedResult, some
from .network import NetworkOptions, TranslationNetwork, Tying
from .spec import TranslationSpec
from .text import Codec


class Translator(SequenceModule):
    """Translates sentences: an encoder, and a decoder that attends to it.

    Validation decodes: ``val_bleu`` and ``val_chrf`` are those of real translations against the sentences as they were
    written, and ``checkpoint.monitor`` and early stopping can watch them.

    Args:
        cell: of all recurrent layers, see :func:`lightning_rnn.layers.table.recurrent`.
        embedding_size: features of a token.
        hidden_size: units of each layer and direction.
        bidirectional: whether the encoder reads in both directions.
        encoder_layers: layers of the encoder.
        decoder: ``none`` (the encoder's final state alone: plain sequence to sequence); attention after the layers:
            ``luong``, or ``input_feeding``, which feeds what it reads into the next step; ``bahdanau``, before the
            layers; ``gnmt``, after the first one. ``none``, ``luong`` and ``gnmt`` train without a loop over steps.
        decoder_layers: layers of the decoder.
        attention: how states ask the encoder's outputs, see :func:`lightning_rnn.seq2seq.attention.build_attention`.
        bridge: how the encoder's final state becomes the decoder's first one.
        residual: what enters a decoder's layer after the first is added to its output.
        tying: which vectors are shared: ``none``; ``embeddings`` of source and target; ``output`` layer and target
            embedding (Press and Wolf 2017); ``all`` three. Source and target are shared where data.joint is true.
        source_vectors: file of word vectors (word2vec or GloVe format) that starts the source embedding.
        target_vectors: the same for the target embedding, and for the source's where they are shared.
        deep_output: a layer with tanh to the embedding's size before the output layer, of state and context.
        head: of the output: ``full`` softmax; ``sampled``, ``nce`` and ``adaptive`` for large vocabularies.
        candidates: words that ``sampled`` and ``nce`` draw for a batch; None: 512.
        embedding_dropout: share of the embedded tokens' features dropped.
        layer_dropout: share dropped between recurrent layers.
        dropout: share dropped before the output layer.
        label_smoothing: share of the target spread over all words; in training alone, with ``full``.
        schedule: scheduled sampling: how the chance that the decoder reads the target's word falls with the steps;
            None: it always does.
        schedule_k: of the schedule's formula, see :class:`lightning_rnn.seq2seq.schedules.Schedule`.
        schedule_c: slope of ``linear``, for a step.
        schedule_floor: lowest chance of ``linear``.
        initializer: of the recurrent weights, for ``simple_rnn``, ``lstm`` and ``gru``.
        engine: of the recurrent layers: ``auto``, or one that is faster with the precision at hand.
        val_sentences: validation translates the first so many sentences; 0: none.
        val_beam_size: of validation's beam search; 1 is greedy.
        beam_size: of the beam search in `test`, `predict` and `translate`.
        length_penalty: ``none``, ``wu`` or ``average``.
        alpha: of ``wu``.
        coverage_beta: weight of the coverage penalty; 0: none.
        stop: when a search ends: ``count``, once ``beam_size`` hypotheses have ended; ``next`` and ``exact`` search
            longer, see :class:`lightning_rnn.seq2seq.beam_options.BeamOptions`.
        length_ratio: a translation has at most this many tokens for each of the source, and ``length_constant``.
        length_constant: see there.
        no_repeat_ngram: no so many tokens in a row stand twice in a translation; 0: they may.

    Raises:
        ConfigError: an option is out of range, or does not go with the others or the data.

    Example:
        >>> Translator(decoder="none", cell="gru").hparams["decoder"]
        'none'
    """

    spec_class = TranslationSpec
    spec: TranslationSpec | None
    network: TranslationNetwork

    def __init__(
        self,
        cell: CellName = "lstm",
        embedding_size: int = 64,
        hidden_size: int = 64,
        bidirectional: bool = True,
        encoder_layers: int = 1,
        decoder: DecoderKind = "gnmt",
        decoder_layers: int = 2,
        attention: AttentionKind = "scaled_dot",
        bridge: BridgeKind = "dense",
        residual: bool = False,
        tying: Tying = "all",
        source_vectors: str | None = None,
        target_vectors: str | None = None,
        deep_output: bool = True,
        head: HeadKind = "full",
        candidates: int | None = None,
        embedding_dropout: float = 0.0,
        layer_dropout: float = 0.0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        schedule: ScheduleKind | None = None,
        schedule_k: float = 1.0,
        schedule_c: float = 0.0,
        schedule_floor: float = 0.0,
        initializer: Initializer | None = None,
        engine: Engine = "auto",
        val_sentences: int = 200,
        val_beam_size: int = 1,
        beam_size: int = 5,
        length_penalty: LengthPenalty = "average",
        alpha: float = 0.6,
        coverage_beta: float = 0.0,
        stop: StopRule = "count",
        length_ratio: float = 2.0,
        length_constant: int = 10,
        no_repeat_ngram: int = 0,
    ) -> None:
        super().__init__()
        require(val_beam_size >= 1, f"model.val_beam_size must be at least 1, got {val_beam_size}")
        require(val_sentences >= 0, f"model.val_sentences must not be negative, got {val_sentences}")
        check_smoothing(label_smoothing)
        smooths = head == "full" or not label_smoothing
        require(smooths, f"model.label_smoothing goes with model.head full, not with {head}: set it to 0")
        shared = tying in ("embeddings", "all")
        require(not (shared and source_vectors), f"model.tying={tying} shares target_vectors: leave source_vectors out")
        require(decoder != "none" or not coverage_beta, f"model.{NO_COVERAGE.format(coverage_beta)}")
        self.save_hyperparameters()
        self.options = NetworkOptions(
            cell=cell,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            bidirectional=bidirectional,
            encoder_layers=encoder_layers,
            decoder=decoder,
            decoder_layers=decoder_layers,
            attention=attention,
            bridge=bridge,
            residual=residual,
            tying=tying,
            deep_output=deep_output,
            head=head,
            candidates=candidates,
            embedding_dropout=embedding_dropout,
            layer_dropout=layer_dropout,
            dropout=dropout,
            initializer=initializer,
            engine=engine,
        )
        self.decoding = DecodingOptions(
            BeamOptions(beam_size, 1, length_penalty, alpha, coverage_beta, stop),
            length_ratio,
            length_constant,
            no_repeat_ngram=no_repeat_ngram,
        )
        self.label_smoothing, self.val_sentences, self.val_beam_size = label_smoothing, val_sentences, val_beam_size
        self.judges = Judges()
        self.schedule = None if schedule is None else Schedule(schedule, schedule_k, schedule_c, schedule_floor)

    def build(self, spec: TranslationSpec) -> TranslationNetwork:  # type: ignore[override]  # its own spec
        self.codec = Codec(spec)
        return TranslationNetwork(spec.source_size, spec.target_size, self.options)

    def build_metrics(self, spec: TranslationSpec, stage: Stage) -> MetricCollection:  # type: ignore[override]
        return MetricCollection({})

    def run_callbacks(self) -> list[pl.Callback]:
        from .callbacks import figures  # late: they need this module

        return [*super().run_callbacks(), *figures(self.options.decoder != "none")]

    def start_from_files(self) -> None:
        """Start the embeddings from the vectors files."""
        self.network.start_from(self.codec, self.hparams["source_vectors"], self.hparams["target_vectors"])

    def step(self, batch: SequenceBatch) -> StepResult:
        assert batch.lengths is not None
        words = batch.inputs[:, :0] if batch.targets is None else shifted(batch.targets, BOS)
        hidden = self.network(batch.inputs, batch.lengths, words, self._forced())
        if batch.targets is None:
            return StepResult(hidden.new_zeros(()), hidden, None, len(batch))
        smoothing = self.label_smoothing if self.training else 0.0
        weight = (batch.targets != PAD).sum() if batch.target_lengths is None else batch.target_lengths.sum()
        loss = self.network.head.loss(hidden, batch.targets, label_smoothing=smoothing)
        return StepResult(loss, hidden, batch.targets, float(weight))

    def _forced(self) -> float:
        """Share of the target's words that the decoder reads in this step."""
        if self.schedule is None or not self.training:
            return 1.0
        return self.schedule(self.trainer.global_step)

    # Translations.

    def translator(self, options: DecodingOptions | None = None, batch_size: int = 64) -> TextTranslator:
        """What translates texts with this network; None decodes as its options say.

        Raises:
            ConfigError: there is no network yet: the module has neither been trained nor loaded.
        """
        if "network" not in self._modules:
            raise ConfigError("there is no network to translate with: load a checkpoint, or train first (fit)")
        return TextTranslator([self.network], self.codec, options or self.decoding, batch_size)

    def to_rows(self, batch: SequenceBatch, result: StepResult) -> Rows:
        """``translation`` and its ``score``; `predict` puts the ``source`` before them."""
        best = [found[0] for found in self._translate(batch, self.decoding)]
        return {"translation": [one.text for one in best], "score": [one.score for one in best]}

    def predict_step(self, batch: SequenceBatch, batch_idx: int = 0) -> Rows:
        """Columns of the predictions: ``id``, ``source``, ``translation``, ``score``."""
        rows = super().predict_step(batch, batch_idx)
        parts, ids = self._rows("predict"), batch.ids
        if parts is None or ids is None:
            return rows
        return {"id": rows["id"], "source": [parts.sources[row] for row in ids.tolist()], **rows}

    def _translate(self, batch: SequenceBatch, options: DecodingOptions) -> list[list[Translation]]:
        """The best translations of each row."""
        assert batch.lengths is not None
        best = search([self.network], batch.inputs, batch.lengths, options)
        ids = [row[:length] for row, length in zip(batch.inputs.tolist(), batch.lengths.tolist(), strict=True)]
        return [[readable(self.codec, one, found) for found in row] for one, row in zip(ids, best, strict=True)]

    def _rows(self, split: Split) -> TranslationRows | None:
        """The rows of a split, where there is a datamodule."""
        rows = None if self._datamodule is None else self._datamodule.split(split)
        assert rows is None or isinstance(rows, TranslationRows)
        return rows

    # Judged by real translations.

    def on_test_start(self) -> None:
        """The BLEU of the LIUM protocol as well, where the data has its references."""
        rows = self._rows("test")
        if rows is not None and rows.tokenized_references is not None:
            assert self.spec is not None
            self.judges.of("test").add_lium(self.spec.languages[1])

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> StepResult:  # type: ignore[override]
        decoding = replace(self.decoding, beam=replace(self.decoding.beam, beam_size=self.val_beam_size))
        return self._judged("val", batch, super().validation_step(batch, batch_idx), decoding)

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> StepResult:  # type: ignore[override]
        return self._judged("test", batch, super().test_step(batch, batch_idx), self.decoding)

    def _judged(self, stage: Judged, batch: SequenceBatch, result: StepResult, decoding: DecodingOptions) -> StepResult:
        """The result with translations: all in a test, in validation those of the first rows."""
        rows = self._rows(stage)
        most = self.val_sentences if stage == "val" else len(batch)
        if rows is None or rows.references is None or batch.ids is None or not most:
            return result
        most = most if stage == "val" else len(rows)
        chosen = (batch.ids < most).nonzero().flatten()
        translations = self._translate(some(batch, chosen), decoding) if len(chosen) else []
        names = batch.ids[chosen].tolist()
        tokenized = rows.tokenized_references
        self.judges.of(stage).update(
            [found[0].text for found in translations],
            [rows.references[row] for row in names],
            [] if tokenized is None else [tokenized[row] for row in names],
        )
        return TranslatedResult(**vars(result), translations=dict(zip(names, translations, strict=True)))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        if self.trainer.is_global_zero:
            self.judges.of("test").log_signatures("test")
        self._log_scores("test")

    def _log_scores(self, stage: Judged) -> None:
        values = {f"{stage}_{name}": value.float() for name, value in self.judges.of(stage).compute().items()}
        self.log_dict(values, prog_bar=stage != "test", sync_dist=True)  # equal everywhere already
        self.judges.of(stage).reset()
