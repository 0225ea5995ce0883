"""What the tests of layers share; pytest has this folder on its path (``pythonpath`` in pyproject.toml)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_rnn.layers import native_library

NO_NATIVE = native_library.why_not()  # here, so that each process of the tests asks once
ENGINES = ("native", "fused", "scan")
HERE = tuple(name for name in ENGINES if name != "native" or NO_NATIVE is None)


def one_engine(name: str) -> Any:
    """A parameter of a test; the native engine is left out where there is no compiler, and pytest says so."""
    missing = pytest.mark.skipif(NO_NATIVE is not None, reason=str(NO_NATIVE))
    return pytest.param(name, marks=missing if name == "native" else ())


def engines(*names: str) -> pytest.MarkDecorator:
    """Run a test on each of these engines, of which it is told the name as ``engine``; none: on all three."""
    return pytest.mark.parametrize("engine", [one_engine(name) for name in names or ENGINES])


def check_refused(layer: Any, name: str, reason: str, *args: Any, **call: Any) -> None:
    """The engine refuses a call, in ``explain`` and in running it, and says why."""
    before, layer.engine = layer.engine, name
    for run in (layer.explain, layer):
        with pytest.raises(ValueError, match=f"engine='{name}' cannot run this call: .*{reason}"):
            run(*args, **call)
    layer.engine = before


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def random_like(nest: Any, requires_grad: bool = False) -> Any:
    return pytree.tree_map(lambda leaf: torch.randn_like(leaf).requires_grad_(requires_grad), nest)


def leaves(nest: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(nest) if leaf is not None]


def close(a: Any, b: Any, atol: float = 1e-12, what: str | None = None) -> None:
    """Equal within ``atol``, tensor by tensor; ``what`` names the two where they differ."""
    name = None if what is None else lambda message: f"{what}: {message}"
    for mine, its in zip(leaves(a), leaves(b), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=atol, msg=name)


def gradients(output: Any, sources: Sequence[Tensor], seed: int = 5) -> list[Tensor]:
    """Of a random sum of all outputs and states, the same on every call."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros((), dtype=torch.float64)
    for leaf in leaves(output):
        total = total + (leaf * torch.randn(leaf.shape, generator=generator, dtype=torch.float64)).sum()
    return list(torch.autograd.grad(total, list(sources), allow_unused=True, materialize_grads=True))


def twin(layer: Any, **changes: Any) -> Any:
    """The same weights with other options."""
    other = type(layer).from_config(layer.get_config() | changes).to(next(layer.parameters()).dtype)
    other.load_state_dict(layer.state_dict())
    return other.train(layer.training)
