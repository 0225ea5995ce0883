"""Triton's kernels: by their interpreter on a CPU against torch's operations, compiled for a GPU, and on a GPU.

The interpreter is chosen when Triton is first imported, so those tests run this file in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn import GRU, LSTM, LSTMState
from lightning_rnn.functional import StepOptions, Weights
from lightning_rnn.functional.masks import Valid
from lightning_rnn.functional.options import DERIVATIVES
from lightning_rnn.functional.scan import Resets
from lightning_rnn.layers import Regularization
from lightning_rnn.layers.engines import Call
from lightning_rnn.layers.gates import KINDS, Gates, bind, parameter_shapes
from lightning_rnn.layers.graphs import graphed
from lightning_rnn.layers.loop import run_loop
from lightning_rnn.layers.triton_steps import against_triton, run_triton

B, T, D, H = 3, 4, 2, 5
MASK = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 1]]).bool()
STARTS = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]]).bool()
VARIANTS: dict[str, tuple[str, StepOptions, int]] = {
    "simple_rnn": ("simple_rnn", StepOptions(), 0),
    "lstm": ("lstm", StepOptions(), 0),
    "lstm projection": ("lstm", StepOptions(proj_clip=0.1), 2),
    "lstm all": ("lstm", StepOptions("softsign", "hard_sigmoid", peephole=True, cell_clip=0.5), 0),
    "lstm by input": ("lstm", StepOptions("silu", "softplus", peephole=True), 0),
    "gru": ("gru", StepOptions(), 0),
    "gru before": ("gru", StepOptions(reset_after=False), 0),
    "gru before by input": ("gru", StepOptions("mish", "softplus", reset_after=False), 0),
}
NOISES: dict[str, tuple[Regularization, bool]] = {
    "plain": (Regularization(), True),
    "noise": (Regularization(recurrent_dropout=0.4, variational=False, zoneout=0.3), True),
    "eval": (Regularization(zoneout=0.3), False),
}
triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def results(
    run: Any, variant: tuple[str, StepOptions, int], noise: str, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Outputs, states and gradients of one engine; all but plain calls have holes in the mask and episode starts."""
    kind, options, width = variant
    torch.manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape).mul_(0.3).to(device, dtype).requires_grad_()

    def state() -> Any:
        return LSTMState(leaf(B, width or H), leaf(B, H)) if kind == "lstm" else leaf(B, width or H)

    shapes = parameter_shapes(KINDS[kind], D, H, width, True, options)
    weights = Weights(**{name: leaf(*shape) for name, shape in shapes.items()})
    x, start, fresh = leaf(B, T, D), state(), state()
    valid = None if noise == "plain" else Valid(MASK.to(device))
    resets = None if noise == "plain" else Resets(STARTS.to(device), fresh)
    torch.manual_seed(1)
    regularization, training = NOISES[noise]
    gates = bind(KINDS[kind], weights, options, regularization, B, training)
    ran = run(gates, x, start, valid, resets, True)
    found = [one for one in pytree.tree_leaves(tuple(ran)) if one is not None]
    if valid is not None:
        found[0] = torch.where(valid.mask.unsqueeze(2), found[0], 0)
    torch.manual_seed(2)
    loss = sum((one * torch.randn(one.shape).to(one)).sum() for one in found)
    tensors = [t for t in pytree.tree_leaves((x, start, fresh, list(weights))) if t is not None]
    grads = torch.autograd.grad(loss, tensors, allow_unused=True)  # type: ignore[arg-type]
    return [one.detach() for one in (*found, *(g for g in grads if g is not None))]


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, as a share of the largest number of each tensor where that is above 1."""
    pairs = [(a.double(), b.double()) for a, b in zip(found, expected, strict=True)]
    return max(float((a - b).abs().max() / max(1.0, float(b.abs().max()))) for a, b in pairs)


def interpret() -> dict[str, float]:
    """Kernels, interpreted, against torch's operations: the largest difference of each case."""
    found = {}
    for (name, variant), noise in ((v, n) for v in VARIANTS.items() for n in NOISES):
        found[f"{name} {noise}"] = difference(*(results(run, variant, noise) for run in (run_triton, run_loop)))
    for activation in DERIVATIVES:
        variant = ("simple_rnn", StepOptions(activation), 0)
        found[activation] = difference(*(results(run, variant, "plain") for run in (run_triton, run_loop)))
    half = VARIANTS["lstm"]
    rounded = results(run_triton, half, "noise", dtype=torch.bfloat16)
    found["bfloat16"] = difference(rounded, results(run_loop, half, "noise")) / 1e5
    return found


def compile_all() -> int:
    """Every kernel compiled for a GPU that need not be there: how many."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lightning_rnn.layers import triton_kernels

    flags = {"PHI": 1, "SIGMA": 14, "LIMIT": 0.5, "ZONE": 0.25, "KEEP": True, "SKIP": True, "PEEPHOLE": True}
    flags |= {"PROJECTED": False, "CARRY": True, "BLOCK": triton_kernels.BLOCK}
    kinds = dict.fromkeys(("size", "count", "keep_row", "keep_col", "skip_row"), "i32") | {"keep": "*i1", "skip": "*i1"}
    names = [f"{name}{back}" for name in KERNELS for back in ("", "_back")]
    for name in names:
        kernel: Any = getattr(triton_kernels, name)
        there = list(kernel.signature.parameters)
        types = {p: "constexpr" if p in flags else kinds.get(p, "*bf16") for p in there}
        source = ASTSource(fn=kernel, signature=types, constexprs={p: flags[p] for p in there if p in flags})
        assert "ptx" in compile(source, target=GPUTarget("cuda", 80, 32)).asm
    return len(names)


KERNELS = ("simple_rnn", "lstm", "gru", "reset", "candidate")


def apart(what: str, **environment: str) -> Any:
    """A function of this file in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, what],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@triton
def test_interpreted_kernels_equal_torch() -> None:
    found = apart("interpret", TRITON_INTERPRET="1")
    assert len(found) == len(VARIANTS) * len(NOISES) + len(DERIVATIVES) + 1
    assert {name: worst for name, worst in found.items() if not worst < 1e-6} == {}


@triton
def test_kernels_compile_for_a_gpu(tmp_path: Any) -> None:
    assert apart("compile_all", TRITON_CACHE_DIR=str(tmp_path)) == 10


def cell(dtype: torch.dtype = torch.float32, **options: Any) -> Gates:
    weights = Weights(torch.zeros(4 * H, D, dtype=dtype), torch.zeros(4 * H, H, dtype=dtype))
    return Gates(KINDS["lstm"], weights, StepOptions(**options))


def test_what_the_kernels_do_not_do_is_named() -> None:
    reasons = "; ".join(against_triton(cell(torch.float64, layer_norm="addons"), Call(unroll=True)))
    for reason in ("layer normalization", "unroll=True", "for a GPU, the weights are on cpu", "no torch.float64"):
        assert reason in reasons
    assert ("Triton is not installed" in reasons) == (find_spec("triton") is None)
    assert "GRU is not written by hand" in against_triton(GRU(D, H), Call())[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")
def test_a_graph_without_a_gpu_is_refused() -> None:
    with pytest.raises(RuntimeError, match="graphed: a CUDA graph needs a GPU, and torch sees none here"):
        graphed(GRU(D, H), torch.zeros(B, T, D))


@gpu
@triton
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("noise", NOISES)
def test_gpu_kernels_equal_torch(variant: str, noise: str) -> None:
    pair = [results(run, VARIANTS[variant], noise, "cuda") for run in (run_triton, run_loop)]
    assert difference(*pair) < 1e-4


@gpu
@pytest.mark.parametrize("options", [{}, {"step_options": StepOptions(peephole=True)}])
def test_gpu_graph_equals_the_layer(options: dict[str, Any]) -> None:
    layer = LSTM(D, H, **options).cuda()
    x, lengths = torch.randn(B, T, D, device="cuda"), torch.tensor([4, 0, 2], device="cuda")
    run = graphed(layer, x, lengths=lengths)
    for _ in range(2):
        x, lengths = torch.randn_like(x), lengths.roll(1)
        expected, found = layer(x, lengths=lengths), run(x, lengths)
        torch.testing.assert_close(found.sequence, expected.sequence, rtol=0, atol=1e-4)
        torch.testing.assert_close(found.state.c, expected.state.c, rtol=0, atol=1e-4)
        weights = list(layer.parameters())
        pair = [torch.autograd.grad(output.last.pow(2).sum(), weights) for output in (found, expected)]
        torch.testing.assert_close(*pair, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="graphed: captured for"):
        run(x[:2], lengths[:2])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({"interpret": interpret, "compile_all": compile_all}[sys.argv[1]]()))
