"""One policy for products of float32 on GPUs, whichever engine computes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

Precision = Literal["ieee", "tf32"]


def set_float32_precision(policy: Precision) -> None:
    """How float32 products are computed on NVIDIA GPUs, by fused kernels and by the loop alike.

    PyTorch's own defaults differ: cuDNN's recurrent kernels use TF32 (10 bits of mantissa) where matrix products use
    full float32, so the same layer gives other numbers on another engine. On a CPU the policy changes nothing.

    Args:
        policy: ``ieee``, full float32; ``tf32``, faster on Ampere and later.

    Raises:
        ValueError: another policy.

    Example:
        >>> with use_float32_precision("ieee"):  # set_float32_precision("ieee") for good
        ...     float32_precision()
        'ieee'
    """
    if policy not in get_args(Precision):
        raise ValueError(f"the float32 precision must be one of {', '.join(get_args(Precision))}, got {policy!r}")
    _set(policy == "tf32", policy == "tf32")


def _set(matmul: bool, cudnn: bool) -> None:
    # the older of PyTorch's two ways to say it: after the newer one, torch.export refuses to read the flags
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def _get() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def float32_precision() -> str:
    """The policy in force: ``ieee`` or ``tf32``, or ``mixed`` where engines differ (PyTorch's default)."""
    matmul, cudnn = _get()
    return "mixed" if matmul != cudnn else "tf32" if matmul else "ieee"


@contextmanager
def use_float32_precision(policy: Precision) -> Iterator[None]:
    """The policy within a ``with``; backward must run inside it too."""
    before = _get()
    set_float32_precision(policy)
    try:
        yield
    finally:
        _set(*before)
