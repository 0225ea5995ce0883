"""What word vectors learn: steps are the gradients of the papers' losses, of the batch's words alone."""

from __future__ import annotations

import heapq
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_rnn.data import TextLines
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.training.resume import StepSeed
from tasks.word_vectors import WordVectorData, WordVectors
from tasks.word_vectors.callbacks import NeighborFigure
from tasks.word_vectors.functional import Block, Loss
from tasks.word_vectors.huffman import huffman_tree
from tasks.word_vectors.network import NetworkOptions, WordVectorNetwork
from tasks.word_vectors.pairs import Pairs

pytestmark = pytest.mark.filterwarnings("ignore:Total length of `list`:UserWarning")  # no validation part
LOSSES: list[Loss] = ["negative_sampling", "nce", "hierarchical", "sampled_softmax"]
COUNTS = [50, 20, 20, 9, 5, 4, 3, 2, 1, 1]
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
}


def some_pairs(centers: int = 12, window: int = 2, noise: int = 3) -> Pairs:
    random = np.random.default_rng(0)
    reach = np.sort(random.integers(1, window + 1, centers))
    contexts = random.integers(0, len(COUNTS), (centers, 2 * window))
    contexts[:, 0], contexts[:, -1] = (
        np.where(reach == 1, -1, contexts[:, 0]),
        np.where(reach == 1, -1, contexts[:, -1]),
    )
    contexts[3, 1] = -1  # where a text begins
    center = random.integers(0, len(COUNTS), centers)
    drawn = random.integers(0, len(COUNTS), (centers, noise))
    drawn[2, 1] = center[2]  # noise that is the centre itself
    return Pairs(*map(torch.from_numpy, (center, contexts, reach, drawn, np.arange(centers) % 3)))


def by_hand(network: WordVectorNetwork, pairs: Pairs) -> list[Tensor]:
    """The loss of each pair, one by one, from the equations."""
    options, tree, found = network.options, huffman_tree(COUNTS), list[Tensor]()
    for center, around, noise in zip(pairs.center.tolist(), pairs.contexts.tolist(), pairs.noise.tolist(), strict=True):
        words = [word for word in around if word >= 0]
        vectors = [network.inputs[word] for word in words]
        if options.architecture == "cbow":
            vectors = [sum(vectors) / (len(words) if options.cbow_mean else 1)]  # type: ignore[list-item]
        drawn = [word for word in noise if word != center]
        for h in vectors:
            if options.loss == "hierarchical":
                path = range(int(tree.lengths[center]))
                signs = [1 - 2 * tree.codes[center, i] for i in path]
                scores = [network.outputs[tree.nodes[center, i]] @ h for i in path]
                loss = sum(-torch.log(torch.sigmoid(s * score)) for s, score in zip(signs, scores, strict=True))
            else:
                yes, no = network.outputs[center] @ h, [network.outputs[word] @ h for word in drawn]
                shift = math.log(len(noise)) if options.loss == "nce" else 0.0
                if options.loss == "sampled_softmax":
                    loss = -torch.log(torch.exp(yes) / sum((torch.exp(one) for one in no), torch.exp(yes)))
                else:
                    loss = -torch.log(torch.sigmoid(yes - shift))
                    loss = loss - sum(torch.log(1 - torch.sigmoid(one - shift)) for one in no)
            found.append(loss)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("architecture", "mean"), [("skip_gram", True), ("cbow", True), ("cbow", False)])
def test_a_step_goes_down_the_gradient_of_the_equations(loss: Loss, architecture: Any, mean: bool) -> None:
    torch.manual_seed(0)
    network = WordVectorNetwork(COUNTS, NetworkOptions(6, architecture, loss, mean, cbow_exact=True)).double()
    torch.nn.init.normal_(network.outputs)
    torch.nn.init.normal_(network.inputs)
    pairs = some_pairs()
    losses = by_hand(network, pairs)
    gradients = torch.autograd.grad(sum(losses), list(network.parameters()))  # type: ignore[arg-type]
    expected = [value.detach() - 0.03 * by for value, by in zip(network.parameters(), gradients, strict=True)]
    total, count = network(pairs, 3)
    assert int(count.sum()) == len(losses)
    assert total.sum().item() == pytest.approx(sum(one.item() for one in losses))
    steps = list(network.blocks(pairs, 10_000))
    assert len(steps) == 2  # one for each reach
    before = network.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    for block, _ in steps:
        network.score(block, 0.03)
        for name, value in network.named_parameters():
            change = value.detach() - before[name]
            before[f"{name} changed"] = before.get(f"{name} changed", 0) + change
            value.data.copy_(before[name])
    for (name, _), want in zip(network.named_parameters(), expected, strict=True):
        torch.testing.assert_close(before[name] + before[f"{name} changed"], want)


def test_a_step_touches_the_words_of_its_pairs_alone() -> None:
    network = WordVectorNetwork([3] * 1000, NetworkOptions(4))
    torch.nn.init.normal_(network.outputs)
    before = [value.detach().clone() for value in network.parameters()]
    for block, _ in network.blocks(some_pairs(), 5):
        network.score(block, 0.1)
    for value, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(value[10:], old[10:]) and not torch.equal(value[:10], old[:10])


def test_blocks_of_one_row_give_each_rows_loss() -> None:
    network, pairs = WordVectorNetwork(COUNTS, NetworkOptions(4)), some_pairs()
    torch.nn.init.normal_(network.outputs)
    whole, counts = network(pairs, 3)
    small, same = network(pairs, 3, size=1)
    torch.testing.assert_close(whole, small)
    assert torch.equal(counts, same)


@pytest.mark.parametrize("counts", [COUNTS, [1, 1], [1000, 1, 1, 1, 1], list(range(1, 60))])
def test_huffman_paths_are_optimal_and_no_code_begins_another(counts: list[int]) -> None:
    tree, heap = huffman_tree(counts), list(counts)
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        cost += (joined := heapq.heappop(heap) + heapq.heappop(heap))
        heapq.heappush(heap, joined)
    assert int((tree.lengths * torch.tensor(counts)).sum()) == cost
    codes = [tuple(code[:size].tolist()) for code, size in zip(tree.codes, tree.lengths.tolist(), strict=True)]
    assert all(a[: len(b)] != b for a, b in itertools.permutations(codes, 2))
    turns = {(tuple(codes[i][:j]), int(tree.nodes[i, j])) for i in range(len(counts)) for j in range(len(codes[i]))}
    assert len(turns) == len({node for _, node in turns}) == len(counts) - 1  # each inner node is one beginning


def two_topics(folder: Path, lines: int = 120) -> Path:
    random = np.random.default_rng(0)
    topics = [[f"{name}{i}" for i in range(8)] for name in "ab"]
    text = [" ".join(random.choice(topics[line % 2], 12)) for line in range(lines)]
    (folder / "text.txt").write_text("\n".join(text) + "\n")
    return folder / "text.txt"


def fitted(data: WordVectorData, model: WordVectors, epochs: int = 3) -> pl.Trainer:
    torch.manual_seed(0)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[StepSeed(0)], **QUIET)
    trainer.fit(model, data)
    return trainer


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("architecture", ["skip_gram", "cbow"])
def test_words_of_one_topic_come_together(tmp_path: Path, loss: Loss, architecture: Any) -> None:
    data = WordVectorData(TextLines(str(two_topics(tmp_path))), window=3, subsample=0, val_fraction=0.1)
    model = WordVectors(10, architecture, loss=loss, learning_rate=0.1, block_pairs=32)
    trainer = fitted(data, model, epochs=6)
    words = model.table.words
    topic = torch.tensor([word[0] == "a" for word in words])
    cosines = model.queries.units @ model.queries.units.T
    assert cosines[topic][:, topic].mean() > cosines[topic][:, ~topic].mean() + 0.3
    start = {"hierarchical": math.log(2) * 4.2, "sampled_softmax": math.log(6)}.get(loss, 6 * math.log(2))
    if loss != "nce":
        assert trainer.callback_metrics["val_loss"] < start
    assert trainer.callback_metrics["train_loss"] > 0


def test_the_rate_falls_linearly_to_the_last_step(tmp_path: Path) -> None:
    rates = list[float]()

    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    data = WordVectorData(TextLines(str(two_topics(tmp_path))), piece_words=100, batch_size=4, val_fraction=0)
    trainer = pl.Trainer(max_epochs=2, callbacks=[Rates()], **QUIET)
    trainer.fit(WordVectors(4, learning_rate=0.1, min_learning_rate=0.02), data)
    steps = len(rates)
    assert trainer.global_step == steps > 5
    assert rates == pytest.approx([0.1 - 0.08 * (i + 1) / steps for i in range(steps)])


def test_training_is_a_function_of_the_seed_and_not_of_the_workers(tmp_path: Path) -> None:
    source = TextLines(str(two_topics(tmp_path, 60)))

    def vectors(workers: int, seed: int) -> Tensor:
        data = WordVectorData(source, piece_words=50, num_workers=workers, seed=seed, val_fraction=0)
        model = WordVectors(4)
        fitted(data, model, epochs=1)
        return model.table.vectors

    first = vectors(0, 0)
    assert torch.equal(first, vectors(2, 0))
    assert not torch.equal(first, vectors(0, 1))


def test_validation_has_the_same_pairs_in_every_epoch_and_training_others(tmp_path: Path) -> None:
    data = WordVectorData(TextLines(str(two_topics(tmp_path))))
    data.setup("fit")
    for split, same in (("val", True), ("train", False)):
        rows = data.split(split)  # type: ignore[arg-type]
        first = rows.__getitems__([0]).targets
        rows.set_epoch(1)
        second = rows.__getitems__([0]).targets
        assert (first.noise.shape == second.noise.shape and torch.equal(first.noise, second.noise)) == same


def test_a_model_starts_from_vectors_or_a_checkpoint_and_learns_new_words(tmp_path: Path) -> None:
    source = TextLines(str(two_topics(tmp_path)))
    first = WordVectors(4)
    trainer = fitted(WordVectorData(source, val_fraction=0), first, epochs=1)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    (tmp_path / "more.txt").write_text("fresh a1 fresh b2 fresh a1\n" * 9)
    data = WordVectorData(
        TextLines(str(tmp_path / "more.txt")), known=str(tmp_path / "first.ckpt"), val_fraction=0, negatives=2
    )
    second = WordVectors(4, start_from=str(tmp_path / "first.ckpt"), learning_rate=1e-8, min_learning_rate=0)
    fitted(data, second, epochs=1)
    assert set(second.table.words) == {*first.table.words, "fresh"}
    counts = dict(zip(second.table.words, second.table.counts or [], strict=True))
    old = dict(zip(first.table.words, first.table.counts or [], strict=True))
    assert counts["fresh"] == 27 and counts["a1"] == old["a1"] + 18
    for model in (first, second):
        assert model.queries.words
    a, b = (model.table.vectors[model.queries.number["a3"]] for model in (first, second))
    torch.testing.assert_close(a, b)
    rows = [model.queries.number["b5"] for model in (first, second)]
    torch.testing.assert_close(first.network.outputs[rows[0]], second.network.outputs[rows[1]])
    assert second.table.vectors[second.queries.number["fresh"]].abs().max() <= 1 / 4 + 1e-6  # as it began


def test_what_cannot_be_learned_is_said(tmp_path: Path) -> None:
    source = TextLines(str(two_topics(tmp_path, 40)))
    with pytest.raises(ConfigError, match=r"leave optimizer and lr_scheduler out, and set model\.learning_rate"):
        WordVectors().use_optimizer({"class_path": "torch.optim.Adam"})
    with pytest.raises(ConfigError, match=r"nce needs noise words: set data\.negatives"):
        fitted(WordVectorData(source, negatives=0, val_fraction=0), WordVectors(4, loss="nce"))
    with pytest.raises(ConfigError, match=r"set trainer\.max_epochs"):
        pl.Trainer(max_epochs=-1, **QUIET).fit(WordVectors(4), WordVectorData(source, val_fraction=0))
    with pytest.raises(DataError, match=r"the loss is not a finite number: lower model\.learning_rate"):
        fitted(WordVectorData(source, val_fraction=0), WordVectors(4, learning_rate=1e30))
    (tmp_path / "a.txt").write_text("a1 1 2\n")
    with pytest.raises(ConfigError, match=r"vectors of 2 numbers: set model\.size"):
        fitted(WordVectorData(source, val_fraction=0), WordVectors(4, start_from=str(tmp_path / "a.txt")))
    (tmp_path / "a.txt").write_text("z 1 2 3 4\n")
    with pytest.raises(DataError, match="has none of the 16 words"):
        fitted(WordVectorData(source, val_fraction=0), WordVectors(4, start_from=str(tmp_path / "a.txt")))
    with pytest.raises(DataError, match="the word 'nowhere' is not among the 16 words"):
        pl.Trainer(callbacks=[NeighborFigure()], max_epochs=1, **QUIET).fit(
            shown := WordVectors(4, shown=["a1", "nowhere"]), WordVectorData(source, val_fraction=0)
        )
    assert not shown.network.outputs.any()  # said before anything is learned
    with pytest.raises(ConfigError, match="there are no vectors yet"):
        _ = WordVectors().table


def test_vectors_are_learned_in_their_own_type_under_autocast(tmp_path: Path) -> None:
    found = []
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        model, data = WordVectors(size=8), WordVectorData(batch_size=4)
        trainer = pl.Trainer(
            default_root_dir=tmp_path, accelerator="cpu", precision=precision, max_epochs=1, limit_train_batches=2,
            limit_val_batches=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False,
        )  # fmt: skip
        torch.manual_seed(1)
        trainer.fit(model, data)
        found.append(model.network.inputs.detach())
    assert found[0].dtype == torch.float32 and torch.equal(*found)


@pytest.mark.parametrize(("mean", "times"), [(True, 3.0), (False, 1 / 3)])
def test_cbow_steps_as_word2vec_does(mean: bool, times: float) -> None:
    """Of the mean each of three words takes the whole step, of the sum a third: the gradient has it the other way."""
    labels = torch.tensor([[1.0, 0]])
    block = Block(torch.tensor([[0, 2, -1, 3]]), torch.tensor([[1, 4]]), labels, torch.ones(1, 2, dtype=torch.bool))
    changes = []
    for exact in (True, False):
        torch.manual_seed(0)
        network = WordVectorNetwork([5] * 6, NetworkOptions(4, "cbow", cbow_mean=mean, cbow_exact=exact))
        torch.nn.init.normal_(network.outputs)
        before = network.inputs.detach().clone()
        network.score(block, 0.1)
        changes.append(network.inputs.detach() - before)
    torch.testing.assert_close(changes[1], times * changes[0])
    assert changes[0][[0, 2, 3]].abs().min() > 0 and not changes[0][[1, 4, 5]].any()
