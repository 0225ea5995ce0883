"""One step of each cell. Gates follow torch's order, so weights are interchangeable with ``torch.nn``.

Every step takes the input's share already projected (:func:`project`), ``x_t = W_ih x + b_ih  [B, G*H]``, because that
product needs no loop: it is taken once for all steps. It returns the new state as a tuple whose first member is the
output.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnn.functional.options import NORMS, NormForm, StepOptions, activation

PLAIN = StepOptions()


class Weights(NamedTuple):
    """Parameters of one cell, named as in ``torch.nn``; ``G`` gates, ``P`` projected (or ``H``) outputs.

    ``weight_ih [G*H, D]``, ``weight_hh [G*H, P]``, ``bias_ih``, ``bias_hh [G*H]``, ``weight_hr [P, H]``, peepholes
    ``weight_ch [3, H]`` in the order i, f, o, gains and offsets of the layer norms.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    weight_ch: Tensor | None = None
    norm_ih_weight: Tensor | None = None
    norm_ih_bias: Tensor | None = None
    norm_hh_weight: Tensor | None = None
    norm_hh_bias: Tensor | None = None
    norm_c_weight: Tensor | None = None
    norm_c_bias: Tensor | None = None


def _normalize(
    x: Tensor, form: NormForm, options: StepOptions, weight: Tensor | None, bias: Tensor | None, groups: int = 1
) -> Tensor:
    eps = options.layer_norm_eps or form.eps
    if groups == 1 or weight is None:
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    blocks = x.reshape(*x.shape[:-1], groups, -1)
    normal = F.layer_norm(blocks, blocks.shape[-1:], eps=eps).flatten(-2) * weight
    return normal if bias is None else normal + bias


def project(kind: str, x: Tensor, w: Weights, options: StepOptions = PLAIN) -> Tensor:
    """The input's share of the gates, for one step ``[B, D]`` or all of them ``[B, T, D]``."""
    form = NORMS.get((kind, options.layer_norm))
    if form is None:
        return F.linear(x, w.weight_ih, w.bias_ih)
    if not form.apart:
        return F.linear(x, w.weight_ih)
    normal = _normalize(F.linear(x, w.weight_ih), form, options, w.norm_ih_weight, w.norm_ih_bias)
    return normal if w.bias_ih is None else normal + w.bias_ih


def _recurrent(h: Tensor, weight: Tensor, bias: Tensor | None, dropped: Tensor | None) -> Tensor:
    """``W h + b``; ``dropped [B, G, P]`` multiplies the state that each gate sees."""
    if dropped is None:
        return F.linear(h, weight, bias)
    gates = weight.reshape(dropped.shape[1], -1, weight.shape[1])
    product = torch.einsum("bgp,ghp->bgh", h.unsqueeze(1) * dropped, gates).flatten(1)
    return product if bias is None else product + bias


def _sum(kind: str, x_t: Tensor, h: Tensor, w: Weights, options: StepOptions, dropped: Tensor | None) -> Tensor:
    """Both shares of the gates, normalized as the variant says."""
    form = NORMS.get((kind, options.layer_norm))
    if form is None:
        return x_t + _recurrent(h, w.weight_hh, w.bias_hh, dropped)
    product = _recurrent(h, w.weight_hh, None, dropped)
    if form.apart:
        total = x_t + _normalize(product, form, options, w.norm_hh_weight, w.norm_hh_bias)
    else:
        total = _normalize(x_t + product, form, options, w.norm_hh_weight, w.norm_hh_bias, form.groups)
        total = total if w.bias_ih is None else total + w.bias_ih
    return total if w.bias_hh is None else total + w.bias_hh


def _clip(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)


def simple_rnn_step(
    x_t: Tensor, state: tuple[Tensor, ...], w: Weights, options: StepOptions = PLAIN, dropped: Tensor | None = None
) -> tuple[Tensor, ...]:
    r"""Elman's step :math:`h' = \phi(W_{ih} x + b_{ih} + W_{hh} h + b_{hh})` (Elman 1990, Finding Structure in Time).

    Args:
        x_t: projected input, ``[B, H]``.
        state: ``(h,)``, ``[B, H]``.
        w: parameters.
        options: variants of the equation.
        dropped: recurrent dropout, ``[B, 1, H]``, multiplied onto ``h``.

    Example:
        >>> w = Weights(torch.zeros(4, 3), torch.eye(4))
        >>> simple_rnn_step(torch.zeros(2, 4), (torch.ones(2, 4),), w)[0][0, 0].item()
        0.7615941762924194
    """
    (h,) = state
    return (activation(options.activation)(_sum("simple_rnn", x_t, h, w, options, dropped)),)


def lstm_step(
    x_t: Tensor, state: tuple[Tensor, ...], w: Weights, options: StepOptions = PLAIN, dropped: Tensor | None = None
) -> tuple[Tensor, ...]:
    r"""LSTM with forget gate (Gers, Schmidhuber, Cummins 2000, Learning to Forget, eq. 2-8).

    :math:`i, f, o = \sigma(\cdot),\ g = \phi(\cdot),\ c' = f c + i g,\ h' = o\,\phi(c')`; with peepholes i and f see
    :math:`c`, o sees :math:`c'` (Sak, Senior, Beaufays 2014, eq. 1-6); with a projection
    :math:`h' = W_{hr}(o\,\phi(c'))`.

    Args:
        x_t: projected input, ``[B, 4H]`` in the order i, f, g, o.
        state: ``(h [B, P], c [B, H])``.
        w: parameters.
        options: variants of the equation.
        dropped: recurrent dropout, ``[B, 4, P]``, multiplied onto ``h`` as each gate sees it.

    Example:
        >>> w = Weights(torch.zeros(8, 3), torch.zeros(8, 2))
        >>> h, c = lstm_step(torch.zeros(1, 8), (torch.zeros(1, 2), torch.ones(1, 2)), w)
        >>> c.tolist()
        [[0.5, 0.5]]
    """
    h, c = state
    phi, sigma = activation(options.activation), activation(options.recurrent_activation)
    form = NORMS.get(("lstm", options.layer_norm))
    i, f, g, o = _sum("lstm", x_t, h, w, options, dropped).chunk(4, dim=-1)
    if w.weight_ch is not None:
        i, f = i + w.weight_ch[0] * c, f + w.weight_ch[1] * c
    c = _clip(sigma(f) * c + sigma(i) * phi(g), options.cell_clip)
    normal = c if form is None else _normalize(c, form, options, w.norm_c_weight, w.norm_c_bias)
    if form is not None and form.memory == "stored":
        c = normal
    if w.weight_ch is not None:
        o = o + w.weight_ch[2] * c
    h = sigma(o) * phi(normal)
    if w.weight_hr is not None:
        h = _clip(F.linear(h, w.weight_hr), options.proj_clip)
    return h, c


def gru_step(
    x_t: Tensor, state: tuple[Tensor, ...], w: Weights, options: StepOptions = PLAIN, dropped: Tensor | None = None
) -> tuple[Tensor, ...]:
    r"""GRU (Cho et al. 2014, arXiv 1406.1078), by default in cuDNN's form: the reset gate after the product.

    :math:`r, z = \sigma(\cdot),\ n = \phi(x_n + r (W_{hn} h + b_{hn})),\ h' = (1 - z) n + z h`; with
    ``reset_after=False`` :math:`n = \phi(x_n + W_{hn} (r h) + b_{hn})`.

    Args:
        x_t: projected input, ``[B, 3H]`` in the order r, z, n.
        state: ``(h,)``, ``[B, H]``.
        w: parameters.
        options: variants of the equation.
        dropped: recurrent dropout, ``[B, 3, H]``, multiplied onto ``h`` as each gate sees it.

    Example:
        >>> w = Weights(torch.zeros(6, 3), torch.zeros(6, 2))
        >>> gru_step(torch.zeros(1, 6), (torch.ones(1, 2),), w)[0].tolist()
        [[0.5, 0.5]]
    """
    (h,) = state
    phi, sigma = activation(options.activation), activation(options.recurrent_activation)
    form = NORMS.get(("gru", options.layer_norm))
    if not options.reset_after:
        return (_reset_before(x_t, h, w, options, dropped),)
    x_r, x_z, x_n = x_t.chunk(3, dim=-1)
    product = _recurrent(h, w.weight_hh, w.bias_hh if form is None else None, dropped)
    if form is not None:
        product = _normalize(product, form, options, w.norm_hh_weight, w.norm_hh_bias)
        product = product if w.bias_hh is None else product + w.bias_hh
    h_r, h_z, h_n = product.chunk(3, dim=-1)
    r, z = sigma(x_r + h_r), sigma(x_z + h_z)
    n = phi(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


def _reset_before(x_t: Tensor, h: Tensor, w: Weights, options: StepOptions, dropped: Tensor | None) -> Tensor:
    size = w.weight_hh.shape[1]
    phi, sigma = activation(options.activation), activation(options.recurrent_activation)
    bias = (None, None) if w.bias_hh is None else (w.bias_hh[: 2 * size], w.bias_hh[2 * size :])
    first, second = (None, None) if dropped is None else (dropped[:, :2], dropped[:, 2:])
    gates = sigma(x_t[:, : 2 * size] + _recurrent(h, w.weight_hh[: 2 * size], bias[0], first))
    r, z = gates.chunk(2, dim=-1)
    n = phi(x_t[:, 2 * size :] + _recurrent(r * h, w.weight_hh[2 * size :], bias[1], second))
    return (1 - z) * n + z * h
