"""One policy for products of float32 on GPUs, whichever engine computes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

Precision = Literal["ieee", "tf32"]


def _backends() -> tuple[Any, ...]:
    return torch.backends.cuda.matmul, torch.backends.cudnn.rnn, torch.backends.cudnn.conv  # type: ignore[attr-defined]


def set_float32_precision(policy: Precision) -> None:
    """How float32 products are computed on NVIDIA GPUs, by fused kernels and by the loop alike.

    PyTorch's own defaults differ: cuDNN's recurrent kernels use TF32 (10 bits of mantissa) where matrix products use
    full float32, so the same layer gives other numbers on another engine. On a CPU the policy changes nothing.

    Args:
        policy: ``ieee``, full float32; ``tf32``, faster on Ampere and later.

    Raises:
        ValueError: another policy.

    Example:
        >>> set_float32_precision("ieee")
        >>> float32_precision()
        'ieee'
    """
    if policy not in get_args(Precision):
        raise ValueError(f"the float32 precision must be one of {', '.join(get_args(Precision))}, got {policy!r}")
    for backend in _backends():
        backend.fp32_precision = policy


def float32_precision() -> str:
    """The policy in force: ``ieee`` or ``tf32``, or ``mixed`` where engines differ (PyTorch's default)."""
    matmul, fused, _ = (backend.fp32_precision for backend in _backends())
    return str(matmul) if matmul == fused else "mixed"


@contextmanager
def use_float32_precision(policy: Precision) -> Iterator[None]:
    """The policy within a ``with``; backward must run inside it too."""
    before = [backend.fp32_precision for backend in _backends()]
    set_float32_precision(policy)
    try:
        yield
    finally:
        for backend, value in zip(_backends(), before, strict=True):
            backend.fp32_precision = value
