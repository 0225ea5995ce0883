"""Masking, embedding and layers at each step, against numpy and the layer by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layer_checks import rand
from torch import Tensor, nn
from wrapped_cells import close

from lightning_rnn import GRU
from lightning_rnn.layers.distributed_in_time import TimeDistributed
from lightning_rnn.layers.embedding import Embedding, Masking

B, T, D, H = 4, 6, 3, 5
HOLES = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()


# Masking, embedding, time distributed


def test_masking_against_numpy() -> None:
    x = rand(B, T, D)
    x[0, 2:] = x[1] = -2.0
    x[2, 0, 0] = -2.0
    mask = np.any(x.numpy() != -2.0, axis=-1)
    layer = Masking(-2.0)
    assert np.array_equal(layer.compute_mask(x).numpy(), mask)
    assert np.array_equal(layer(x).numpy(), x.numpy() * mask[..., None])
    assert layer.compute_mask(x.reshape(B, T, D, 1)).shape == (B, T)
    with pytest.raises(ValueError, match=r"expected x of shape \[B, T, D\], got \[4, 6\]"):
        layer(x[..., 0])
    rnn = GRU(D, H).double()
    close(rnn(layer(x), mask=layer.compute_mask(x)), rnn(x, mask=torch.from_numpy(mask)))


def test_embedding_tells_padding() -> None:
    ids = torch.tensor([[3, 0, 1], [0, 0, 0]])
    plain, told = Embedding(5, D), Embedding(5, D, mask_zero=True)
    assert plain.compute_mask(ids) is None
    mask = told.compute_mask(ids)
    assert mask is not None and mask.tolist() == [[True, False, True], [False] * 3]
    assert torch.equal(told(ids), told.weight[ids])
    frozen = Embedding.from_pretrained(rand(5, D), mask_zero=True)
    assert not frozen.weight.requires_grad and frozen.mask_zero and frozen.embedding_dim == D
    with pytest.raises(ValueError, match=r"vectors of shape \[V, D\]"):
        Embedding.from_pretrained(rand(5))


@pytest.mark.parametrize("at_once", [False, True])
def test_time_distributed_equals_the_layer_at_each_step(at_once: bool) -> None:
    conv, x = nn.Conv2d(3, 4, 3).double(), rand(2, 5, 3, 6, 6)
    close(TimeDistributed(conv, at_once)(x), torch.stack([conv(frame) for frame in x.unbind(1)], dim=1))
    assert TimeDistributed(conv, at_once)(x[:, :0]).shape == (2, 0, 4, 4, 4)


def test_time_distributed_sees_the_statistics_of_one_step() -> None:
    x = rand(B, T, D) * torch.arange(1, T + 1).unsqueeze(1)
    y = TimeDistributed(nn.BatchNorm1d(D).double())(x).detach().numpy()
    wanted = (x.numpy() - x.numpy().mean(0)) / np.sqrt(x.numpy().var(0) + 1e-5)
    assert np.allclose(y, wanted, atol=1e-12)
    assert not np.allclose(TimeDistributed(nn.BatchNorm1d(D).double(), at_once=True)(x).detach().numpy(), wanted)


class Masked(nn.Module):
    def forward(self, x: dict[str, Tensor], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, second = x["a"], x["b"]
        assert mask is None or mask.shape == first.shape[:1]
        return (first if mask is None else first * mask.unsqueeze(1)), second.sum(1)


@pytest.mark.parametrize("at_once", [False, True])
def test_time_distributed_nests_and_masks(at_once: bool) -> None:
    layer, x = TimeDistributed(Masked(), at_once), {"a": rand(B, T, D), "b": rand(B, T, 2)}
    close(layer(x), (x["a"], x["b"].sum(2)))
    close(layer(x, mask=HOLES), (x["a"] * HOLES.unsqueeze(2), x["b"].sum(2)))
    close(TimeDistributed(nn.Identity(), at_once)(x["a"], mask=HOLES), x["a"])
    inner = GRU(D, H).double()
    words = rand(B, 2, T, D)
    output = TimeDistributed(inner, at_once)(words)
    close(output.sequence, torch.stack([inner(words[:, t]).sequence for t in range(2)], dim=1))


def test_time_distributed_says_what_is_wrong() -> None:
    layer = TimeDistributed(nn.Linear(D, H))
    for x, mask in ((torch.zeros(B), None), (torch.zeros(B, T, D), HOLES[:, :2]), (torch.zeros(B, T, D), HOLES[0])):
        with pytest.raises(ValueError, match=r"every input and the mask must be \[B, T, \.\.\.\]"):
            layer(x, mask=mask)
    with pytest.raises(ValueError, match="a row for each of 24"):
        TimeDistributed(nn.Flatten(0), at_once=True)(torch.zeros(B, T, D))
    with pytest.raises(TypeError, match="expected a module, got int"):
        TimeDistributed(3)  # type: ignore[arg-type]
