"""Precision of products: one policy for float32 on GPUs, and which dtypes a call was in fact computed in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_rnn.types import RNNOutput

Precision = Literal["ieee", "tf32"]
PRODUCTS = (  # operations that multiply matrices, by PyTorch's names; a recurrent kernel is one operation
    "mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "mv", "addmv", "dot", "convolution", "_int_mm",
    "_cudnn_rnn", "miopen_rnn", "mkldnn_rnn_layer", "native_forward", "fused",
)  # fmt: skip


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


class Dtypes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, within a ``with``, the dtypes of matrix products and what tensors were cast to, whichever engine runs.

    Autocast acts before the operations seen here, so these are the dtypes that were computed in. A call under it takes
    some microseconds an operation longer.

    Attributes:
        products: dtypes of the operands of products, floating or int8.
        casts: floating dtypes that tensors were converted to.

    Example:
        >>> with Dtypes() as seen, torch.autocast("cpu", torch.bfloat16):
        ...     y = torch.nn.Linear(3, 5)(torch.zeros(2, 3))
        >>> seen.products
        {torch.bfloat16}
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: set[torch.dtype] = set()
        self.casts: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, options = func.overloadpacket.__name__, dict(kwargs or {})
        if name in PRODUCTS:
            self.products |= numbers((args, options))
        elif name == "_to_copy" and isinstance(to := options.get("dtype"), torch.dtype) and to.is_floating_point:
            self.casts.add(to)
        return func(*args, **options)


def numbers(nest: Any) -> set[torch.dtype]:
    """Dtypes of the tensors of a nest that hold numbers to compute with: floating ones, and int8."""
    leaves = (leaf for leaf in pytree.tree_leaves(nest) if isinstance(leaf, Tensor))
    return {leaf.dtype for leaf in leaves if leaf.is_floating_point() or leaf.dtype == torch.int8}


def ran_in(seen: Dtypes, output: RNNOutput, asked: torch.dtype | None = None) -> str:
    """The dtypes of a layer's call in words: one where all are the same.

    Args:
        seen: what was noted during the call.
        output: what the layer returned.
        asked: autocast's dtype; None without autocast.

    Example:
        >>> from lightning_rnn import LSTM
        >>> layer, x = LSTM(3, 5, engine="scan"), torch.zeros(2, 7, 3)
        >>> with Dtypes() as seen, torch.autocast("cpu", torch.bfloat16):
        ...     output = layer(x)
        >>> ran_in(seen, output, torch.bfloat16)
        'bfloat16 products, float32 state and output'
    """
    products, state, result = seen.products, numbers(output.state), numbers(output.sequence)
    rounded = asked is not None and asked in seen.casts and asked not in products
    everything = products | state | result
    if len(everything) == 1 and not rounded:
        unheeded = asked is not None and asked not in everything
        return _words(everything) + (f" (not autocast's {_words([asked])})" if unheeded and asked else "")
    text = f"{_words(products)} products" if products else "no products"
    if rounded and asked is not None:
        text += f" of numbers rounded to {_words([asked])}"
    if state == result:
        return f"{text}, {_words(state)} state and output"
    return ", ".join([text, *([f"{_words(state)} state"] if state else []), f"{_words(result)} output"])


def _words(dtypes: Iterable[torch.dtype]) -> str:
    return " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
