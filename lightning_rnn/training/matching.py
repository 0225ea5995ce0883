"""Whether a checkpoint is one of this task, of this data, and of this network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_rnn.errors import CheckpointError

CHECKPOINT_KEY = "lightning_rnn"
FORMAT_VERSION = 1


def saved_spec(checkpoint: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The fields of the data spec in a checkpoint of ``task``.

    Raises:
        CheckpointError: it is not one of this task.
    """
    saved = checkpoint.get(CHECKPOINT_KEY)
    if saved is None:
        raise CheckpointError("this is not a checkpoint of lightning-rnn: it names no task")
    if saved["task"] != task:
        raise CheckpointError(f"the checkpoint is of the task {saved['task']}, this is {task}")
    if saved["format"] > FORMAT_VERSION:
        raise CheckpointError(f"the checkpoint has format {saved['format']}; update lightning-rnn to read it")
    spec: dict[str, Any] = saved["spec"]
    return spec


def check_spec(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raise :class:`CheckpointError` unless the checkpoint's data spec is this data's."""
    if ours == theirs:
        return
    key = next(key for key in ours if ours[key] != theirs.get(key))
    there, here = _short(theirs.get(key)), _short(ours[key])
    different = f"its {key} is {there}, this data's is {here}" if there != here else f"it has another {key}"
    raise CheckpointError(
        f"the checkpoint was trained on other data: {different}. Use the data it was trained on, or train anew."
    )


def check_shapes(network: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raise :class:`CheckpointError` unless the checkpoint's weights have the shapes of the network's."""
    own = {name: tuple(value.shape) for name, value in network.items()}
    theirs = {name: tuple(value.shape) for name, value in state.items() if name.startswith("network.")}
    different = [name for name in sorted(own | theirs) if own.get(name) != theirs.get(name)]
    if different:
        shown = "; ".join(f"{n}: {theirs.get(n, 'absent')} there, {own.get(n, 'absent')} here" for n in different[:3])
        raise CheckpointError(
            f"the checkpoint's network differs from this configuration's in {len(different)} weights ({shown}). "
            "Give the model options it was trained with (config.yaml of its run has them)."
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
