"""The precision of a run: refused where there is none such, chosen by one key, and logged as each layer ran."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator, MPSAccelerator, XLAAccelerator
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.errors import require
from lightning_rnn.layers.cell import first_tensor
from lightning_rnn.layers.precision import Dtypes, Precision, ran_in, use_float32_precision
from lightning_rnn.layers.sequence import SequenceLayer
from lightning_rnn.types import RNNOutput

log = logging.getLogger(__name__)
HALF = ("16", "16-mixed", "16-true")  # as Lightning names float16
Recurrent = Literal["autocast", "float32"]


def check_precision(precision: object, accelerator: object) -> None:
    """Refuse float16 on a CPU, which Lightning would turn into bfloat16.

    Args:
        precision: as ``Trainer(precision=...)`` takes it.
        accelerator: as ``Trainer(accelerator=...)`` takes it; ``auto`` is a CPU where there is nothing else.

    Raises:
        ConfigError: float16 on a CPU.

    Example:
        >>> check_precision("16-mixed", "cpu")
        Traceback (most recent call last):
        lightning_rnn.errors.ConfigError: trainer.precision 16-mixed is for GPUs, and this run is on a CPU: use \
bf16-mixed, or a GPU (trainer.accelerator gpu)
        >>> check_precision("bf16-mixed", "cpu")
    """
    require(
        str(precision) not in HALF or not _is_cpu(accelerator),
        f"trainer.precision {precision} is for GPUs, and this run is on a CPU: use bf16-mixed, or a GPU "
        "(trainer.accelerator gpu)",
    )


def _is_cpu(accelerator: object) -> bool:
    if isinstance(accelerator, Accelerator):
        return isinstance(accelerator, CPUAccelerator)
    others = (CUDAAccelerator, MPSAccelerator, XLAAccelerator)
    return accelerator == "cpu" or (accelerator == "auto" and not any(one.is_available() for one in others))


class PrecisionPolicy(pl.Callback):
    """What ``Trainer(precision=...)`` leaves open, in every verb: TF32, and whether recurrent layers take part.

    Under autocast weights, their gradients and the optimizer's state are float32. What a layer's products and states
    are is its engine's affair, see docs/precision.md; the log says it of each layer.

    Args:
        float32: float32 products on NVIDIA GPUs, of all engines: ``ieee``, full; ``tf32``, faster.
        recurrent: whether layers over time follow ``autocast`` or stay in ``float32`` under it, products and states:
            for memories that are kept over many hundred steps.

    Raises:
        ConfigError: float16 on a CPU, by a plugin or by ``16-true``. (``Trainer(precision="16-mixed")`` on a CPU is
            bf16-mixed before this can see it: Lightning warns. :func:`check_precision` refuses it.)

    Example:
        .. code-block:: python

            trainer = pl.Trainer(precision="bf16-mixed", callbacks=[PrecisionPolicy(recurrent="float32")])
    """

    def __init__(self, float32: Precision = "ieee", recurrent: Recurrent = "autocast") -> None:
        self.float32, self.recurrent = float32, recurrent
        self._handles: list[Any] = []
        self._while = ExitStack()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        check_precision(trainer.precision, trainer.accelerator)
        self._while.enter_context(use_float32_precision(self.float32))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._while.close()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what was chosen, and hold layers in float32 where asked."""
        self._hold(pl_module)
        if not trainer.is_global_zero:
            return
        log.info("precision: %s", ", ".join([str(trainer.precision), *self._chosen(trainer)]))

    def _chosen(self, trainer: pl.Trainer) -> Iterator[str]:
        plugin = trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is not None:
            yield "gradients scaled"
        if isinstance(trainer.accelerator, CUDAAccelerator):
            yield f"float32 products {self.float32}"
        elif self.float32 != "ieee":
            yield f"float32 {self.float32} changes nothing here: it is for NVIDIA GPUs"
        if self._handles:
            yield "recurrent layers float32"

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hold(pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hold(pl_module)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hold(pl_module)

    def _hold(self, module: nn.Module) -> None:
        if self.recurrent == "float32" and not self._handles:
            for layer in module.modules():
                if isinstance(layer, SequenceLayer):
                    self._handles += hold_float32(layer)


def hold_float32(layer: nn.Module) -> list[Any]:
    """Keep a layer's calls out of autocast: floating inputs and states are taken in float32.

    Returns:
        Two handles, whose ``remove()`` undoes it.

    Example:
        >>> from lightning_rnn import GRU
        >>> layer = GRU(3, 5)
        >>> handles = hold_float32(layer)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     layer(torch.zeros(2, 7, 3)).sequence.dtype
        torch.float32
    """
    held = ExitStack()

    def enter(_: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        device = first_tensor((args, kwargs)).device.type
        if torch.is_autocast_enabled(device):
            low = torch.get_autocast_dtype(device)
            args, kwargs = pytree.tree_map_only(Tensor, lambda t: t.float() if t.dtype == low else t, (args, kwargs))
            held.enter_context(torch.autocast(device, enabled=False))
        return args, kwargs

    def leave(_: nn.Module, args: Any, output: Any) -> None:
        held.close()

    first = layer.register_forward_pre_hook(enter, with_kwargs=True)
    return [first, layer.register_forward_hook(leave, always_call=True)]


def log_engine_once(name: str, layer: SequenceLayer) -> None:
    """Log the engine of the layer's next call, and the dtypes that it is computed in."""
    _CallLog(name, layer)


class _CallLog:
    """Hooks around one call of a layer, which then remove themselves."""

    def __init__(self, name: str, layer: SequenceLayer) -> None:
        self.name, self.layer, self.seen, self.watching = name, layer, Dtypes(), ExitStack()
        self.device, self.engine = torch.device("cpu"), ""
        first = layer.register_forward_pre_hook(self._before, with_kwargs=True)
        self.handles = [first, layer.register_forward_hook(self._after, always_call=True)]

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        engine, reasons = self.layer.explain(*args, **kwargs)
        self.engine = f"engine {engine} ({'; '.join(reasons)})"
        self.device = first_tensor((args, kwargs)).device
        self.watching.enter_context(self.seen)

    def _after(self, _: nn.Module, args: tuple[Any, ...], output: RNNOutput | None) -> None:
        self.watching.close()
        for handle in self.handles:
            handle.remove()
        if output is None:  # the call failed, and says why itself
            return
        kind = self.device.type
        asked = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        what = f"{type(self.layer).__name__}({self.layer.extra_repr()}) on {self.device}"
        log.info("%s: %s, %s, %s", self.name, what, ran_in(self.seen, output, asked), self.engine)
