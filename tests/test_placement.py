"""Layers on a list of devices compute what the network without them does, and every one of them is accounted for."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.multiprocessing as mp
from processes import QUIET
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from lightning_rnn import GRU, LSTM, RNN, Bidirectional, CIFGCell, SimpleRNN, TimeOptions, UGRNNCell
from lightning_rnn.cli import main
from lightning_rnn.distributed import LayerPlacement, place
from lightning_rnn.errors import ConfigError
from lightning_rnn.layers import Regularization
from tasks.forecasting.stack import DilatedStack
from tasks.grammar_acceptance.network import GrammarNetwork
from tasks.grammar_acceptance.network import NetworkOptions as GrammarOptions
from tasks.grammar_acceptance.spec import GrammarSpec
from tasks.rainfall.network import BothEnds, TwoLayers
from tasks.sequence_classification import ClassificationData, SequenceClassifier
from tasks.translation.network import NetworkOptions, TranslationNetwork

ROOT = Path(__file__).parents[1]
B, T, D = 3, 11, 4
Network = Callable[[], nn.Module]


@pytest.fixture
def double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def loss_of(output: Any) -> Tensor:
    """A number that depends on every element of what a network returns."""
    numbers = torch.Generator().manual_seed(1)
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    return sum((leaf * torch.randn(leaf.shape, generator=numbers)).sum() for leaf in leaves)  # type: ignore[return-value]


def compare(make: Network, call: Callable[[nn.Module, Tensor], Any], chunks: int = 4) -> nn.Module:
    """Outputs, gradients of weights and input: with layers placed and without; gives the placed one."""
    torch.manual_seed(0)
    alone = make()
    placed = copy.deepcopy(alone)
    place(placed, ["cpu", "cpu"], chunks)
    found: list[Any] = []
    for network in (alone, placed):
        x = torch.randn(B, T, D, generator=torch.Generator().manual_seed(3)).requires_grad_()
        torch.manual_seed(5)
        output = call(network, x)
        loss_of(output).backward()
        found.append((pytree.tree_leaves(output), x.grad, [p.grad for p in network.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-10)
    assert placed.state_dict().keys() == alone.state_dict().keys()
    return placed


LENGTHS = torch.tensor([T, 3, 0])
MASK = torch.rand(B, T, generator=torch.Generator().manual_seed(2)) > 0.4
STARTS = torch.rand(B, T, generator=torch.Generator().manual_seed(4)) < 0.2
ALL = TimeOptions(return_all_states=True)
NOISY = Regularization(layer_dropout=0.5, dropout=0.2, recurrent_dropout=0.3)
STACKS: dict[str, Network] = {
    "lstm": lambda: LSTM(D, 5, 3),
    "projected": lambda: LSTM(D, [5, 6, 7], proj_size=3),
    "learned": lambda: GRU(D, D, 3, residual=True, initial_state="learned"),
    "zeroed": lambda: SimpleRNN(D, 5, 2, zero_output_for_mask=True, time_options=TimeOptions(checkpoint=2)),
    "all_states": lambda: GRU(D, 5, 3, time_options=ALL),
    "dropout": lambda: LSTM(D, 5, 3, regularization=Regularization(layer_dropout=0.5)),
    "noise": lambda: LSTM(D, 5, 3, regularization=NOISY),
    "reverse": lambda: GRU(D, 5, 3, reverse=True, time_options=ALL),
    "both": lambda: LSTM(D, 5, 3, bidirectional=True, regularization=Regularization(layer_dropout=0.5)),
    "wrapped": lambda: Bidirectional(GRU(D, 5, 2)),
    "cells": lambda: RNN([CIFGCell(D, 5), UGRNNCell(5, 6)]),
}
GIVEN: dict[str, dict[str, Tensor]] = {
    "nothing": {},
    "lengths": {"lengths": LENGTHS},
    "starts": {"mask": MASK, "reset_mask": STARTS},
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", STACKS)
def test_a_placed_stack_gives_the_outputs_and_gradients_of_the_unplaced(name: str, given: str) -> None:
    compare(STACKS[name], lambda network, x: network(x, **GIVEN[given]))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("chunks", [1, 2, 11, 100])
def test_the_number_of_pieces_changes_nothing(chunks: int) -> None:
    compare(STACKS["lstm"], lambda network, x: network(x, lengths=LENGTHS), chunks)


@pytest.mark.usefixtures("double")
def test_state_is_carried_from_call_to_call_and_packed_rows_and_no_steps_are_taken() -> None:
    def halves(network: nn.Module, x: Tensor) -> Any:
        _, state = network(x[:, :6])
        return network(x[:, 6:], state)

    compare(STACKS["lstm"], halves)
    compare(lambda: GRU(D, 5, 2, stateful=True), lambda network, x: [network(x[:, :6]), network(x[:, 6:])])
    compare(STACKS["lstm"], lambda network, x: (network(x[:, :0]), x))
    rows = nn.utils.rnn.pack_padded_sequence
    compare(STACKS["lstm"], lambda network, x: network(rows(x, torch.tensor([11, 7, 2]), batch_first=True)).state)
    compare(STACKS["lstm"], lambda network, x: network.eval().step(x[:, 0]))


def translate(network: nn.Module, x: Tensor) -> Any:
    words = (x.detach()[..., 0] * 10).long().abs().clamp(1, 19)
    state, constants = network.begin(words, LENGTHS.clamp(min=1))
    step = network.decode_step(words[:, 0], state, constants)
    return network(words, LENGTHS.clamp(min=1), words), step.log_probs, x.sum()


def translator(decoder: Any, cell: Any = "lstm") -> TranslationNetwork:
    options = NetworkOptions(cell, 4, 6, decoder=decoder, encoder_layers=2, decoder_layers=2, layer_dropout=0.0)
    return TranslationNetwork(20, 20, options)


def grammar() -> GrammarNetwork:
    return GrammarNetwork(GrammarSpec(features=D, outputs=3), GrammarOptions(cell="gru", hidden_size=6, num_layers=2))


TASKS: dict[str, tuple[Network, Callable[[nn.Module, Tensor], Any]]] = {
    "grammar": (grammar, lambda network, x: network(x, LENGTHS)),
    "rainfall": (lambda: TwoLayers(D, [5, 6]), lambda network, x: network(x, LENGTHS)),
    "rainfall_both": (lambda: BothEnds(D, [5, 6]), lambda network, x: network(x, LENGTHS.clamp(min=1))),
    "dilated": (lambda: DilatedStack("gru", D, [1, 2, 4], True), lambda network, x: network(x)),
    **{kind: (lambda kind=kind: translator(kind), translate) for kind in ("none", "luong", "gnmt", "bahdanau")},
    "input_feeding": (lambda: translator("input_feeding", "mgu"), translate),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", TASKS)
def test_the_networks_of_the_tasks_compute_the_same_when_placed(name: str) -> None:
    compare(*TASKS[name])


# Devices


def test_on_meta_every_layer_runs_where_it_stands() -> None:
    with torch.device("meta"):
        network = GRU(D, 5, 3, engine="scan")
        placement = place(network, ["meta", "meta"], chunks=4)
        output = network(torch.empty(B, T, D), mask=torch.ones(B, T, dtype=torch.bool))
    assert {str(one.device) for one in placement.layers} == {"meta"}
    assert output.sequence.shape == (B, T, 5) and output.sequence.is_meta


def moved(module: nn.Module, device: torch.device, *_: object) -> nn.Module:
    """``module.to(device)`` for tensors that are only pretended."""
    for one in module.modules():
        for name, parameter in one._parameters.items():
            if parameter is not None:
                one._parameters[name] = nn.Parameter(parameter.to(device))
    return module


PRETENDED = ("lstm", "learned", "reverse", "both", "cells")


def pretend(_: int, folder: Path) -> None:
    """Tensors without values on two devices of a made-up kind, which torch refuses to mix."""
    _setup_privateuseone_for_python_backend("pretended")
    nn.Module.to = moved  # type: ignore[method-assign,assignment]
    torch.compiler.is_compiling = lambda: True  # lengths have no values to be checked
    runs = {name: (STACKS[name], lambda network, x: network(x, mask=x[..., 0] > 0)) for name in PRETENDED}
    runs |= {name: TASKS[name] for name in ("dilated", "grammar", "gnmt", "bahdanau", "input_feeding")}
    for name, (make, call) in runs.items():
        with FakeTensorMode(), torch.no_grad():
            globals()["LENGTHS"] = torch.zeros(2, dtype=torch.int64, device="pretended:0")
            network = make().to("pretended:0").eval()
            for layer in network.modules():
                if isinstance(layer, (GRU, LSTM, SimpleRNN)):
                    layer.engine = "scan"
            placement = place(network, ["pretended:0", "pretended:1"], chunks=2)
            devices = {str(parameter.device) for parameter in network.parameters()}
            assert devices == {"pretended:0", "pretended:1"}, (name, devices)
            for leaf in pytree.tree_leaves(call(network, torch.zeros(2, 3, D, device="pretended:0"))):
                assert not isinstance(leaf, Tensor) or str(leaf.device) == "pretended:0", name
            assert {str(one.device) for one in placement.layers} == devices, name
    (folder / "done").touch()


def test_on_two_pretended_devices_nothing_meets_what_is_on_the_other(tmp_path: Path) -> None:
    mp.start_processes(pretend, (tmp_path,), nprocs=1, start_method="fork")
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.usefixtures("double")
def test_two_gpu_devices_give_the_outputs_and_gradients_of_the_cpu() -> None:
    for name in ("lstm", "learned", "both", "cells"):
        torch.manual_seed(0)
        alone = STACKS[name]()
        placed = copy.deepcopy(alone).to("cuda:0")
        place(placed, ["cuda:0", "cuda:1"], 4)
        outputs = []
        for network, device in ((alone, "cpu"), (placed, "cuda:0")):
            x = torch.randn(B, T, D, generator=torch.Generator().manual_seed(3)).to(device)
            sequence = network(x, mask=MASK.to(device)).sequence
            sequence.square().sum().backward()
            outputs.append([sequence.cpu(), *(p.grad.cpu() for p in network.parameters() if p.grad is not None)])
        torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-9)


WRONG: dict[str, tuple[Network, list[str], int, str]] = {
    "unknown": (STACKS["lstm"], ["cpu", "gpu0"], 8, "no device is called 'gpu0': give such as cuda:0"),
    "absent": (STACKS["lstm"], ["cpu", "cuda:77"], 8, "the device cuda:77 is not there"),
    "many": (grammar, ["cpu"] * 3, 8, r"names 3 devices, but the longest stack \(rnn\) has 2 layers: name at most 2"),
    "none": (STACKS["lstm"], [], 8, "is empty: name one device"),
    "no_pieces": (STACKS["lstm"], ["cpu"], 0, "chunks must be at least 1, got 0"),
    "no_stack": (lambda: LSTM(D, 5), ["cpu"], 8, "no recurrent layers on top of each other"),
    "not_made": (lambda: LSTM(None, 5, 2), ["cpu", "cpu"], 8, "give the layer its input_size"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_list_of_devices_is_one_sentence(name: str) -> None:
    make, devices, chunks, sentence = WRONG[name]
    with pytest.raises(ConfigError, match=sentence) as caught:
        place(make(), devices, chunks)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_cut_says_why_and_undoing_leaves_no_trace() -> None:
    network = nn.ModuleDict({name: STACKS[name]() for name in ("lstm", "both", "reverse", "noise")})
    before = {name: list(module.__dict__) for name, module in network.named_modules()}
    placement = place(network, ["cpu", "cpu"], chunks=4)
    why = {one.layer.split()[0]: one.why for one in placement.layers}
    assert why == {
        "lstm": "",
        "both": "it is bidirectional",
        "reverse": "it reads from the end",
        "noise": "its dropout is the same at every step of a call",
    }
    assert "lstm layer 2 of 3 on cpu, 4 pieces of time" in str(placement)
    placement.undo()
    assert {name: list(module.__dict__) for name, module in network.named_modules()} == before


# Lightning


def fit(folder: Path, strategy: Any, epochs: int, checkpoint: Path | None = None) -> tuple[pl.Trainer, Any]:
    data = ClassificationData(batch_size=64, bucketing=False, baselines=False)
    module = SequenceClassifier(cell="gru", hidden_size=6, num_layers=2, layer_dropout=0.3)
    pl.seed_everything(3, verbose=False)
    loop = pl.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        precision="64-true",
        max_epochs=epochs,
        limit_train_batches=4,
        limit_val_batches=1,
        **QUIET,
        default_root_dir=folder,
    )
    loop.fit(module, data, ckpt_path=checkpoint)
    loop.save_checkpoint(folder / "run.ckpt")
    return loop, module


def test_a_placed_run_trains_as_the_unplaced_and_each_goes_on_from_the_others_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / name for name in ("alone", "placed", "alone_on", "placed_on")]
    for folder in folders:
        folder.mkdir()
    _, alone = fit(folders[0], "auto", 1)
    with caplog.at_level(logging.INFO):
        _, placed = fit(folders[1], LayerPlacement(["cpu", "cpu"], chunks=3), 1)
    assert "placed network.rnn layer 2 of 2 on cpu, 3 pieces of time" in caplog.text
    torch.testing.assert_close(placed.state_dict(), alone.state_dict(), rtol=0, atol=1e-10)
    assert "forward" not in placed.network.rnn.__dict__  # what was placed is taken back
    _, alone = fit(folders[2], "auto", 2, folders[1] / "run.ckpt")
    _, placed = fit(folders[3], LayerPlacement(["cpu", "cpu"], chunks=3), 2, folders[0] / "run.ckpt")
    torch.testing.assert_close(placed.state_dict(), alone.state_dict(), rtol=0, atol=1e-10)


def test_the_overlay_is_refused_in_one_sentence_where_its_devices_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.device_count() > 1:
        pytest.skip("they are there")
    configs = [
        ROOT / "configs" / name for name in ("sequence_classification/digits.yaml", "trainer/model_parallel.yaml")
    ]
    arguments = [part for config in configs for part in ("--config", str(config))]
    code = main(["fit", *arguments, "--model.num_layers", "2", "--trainer.default_root_dir", str(tmp_path / "run")])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and "trainer.strategy.devices: the device cuda:" in error and "is not there" in error
