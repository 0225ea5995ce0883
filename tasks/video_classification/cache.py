"""What a frozen network makes of clips, computed once: in memory, or in the cache folder too."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_rnn.data import Ragged
from lightning_rnn.data.cache import prepared

log = logging.getLogger(__name__)
Cache = Literal["none", "memory", "disk"]
KIND, FILE = "frame-features", "features.pt"
BATCH = 256  # frames at once
PROBED = 16


def key_of(network: nn.Module, clips: Ragged, about: Mapping[str, Any]) -> str:
    """A hash of all weights, all frames and what else the features depend on: others, another key."""
    found = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name, value in chain(network.named_parameters(), network.named_buffers()):
        found.update(name.encode())
        found.update(_bytes(value))
    found.update(_bytes(clips.offsets))
    found.update(_bytes(clips.values))
    return found.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else b""


def probe_of(network: nn.Module, clips: Ragged, device: torch.device) -> str:
    """A hash of the features of a few frames, evenly spaced: another when the network's code was changed."""
    few = torch.linspace(0, len(clips.values) - 1, min(PROBED, len(clips.values))).long()
    frames = Ragged(clips.values[few], torch.tensor([0, len(few)]))
    return hashlib.blake2b(_bytes(compute(network, frames, device)), digest_size=16).hexdigest()


@torch.no_grad()
def compute(network: nn.Module, clips: Ragged, device: torch.device) -> Tensor:
    """The features of all frames, ``[S, F]``, on the CPU: frames go through the network in clips of 256."""
    pieces = [
        network(piece.unsqueeze(0).to(device)).squeeze(0).float().cpu() for piece in torch.split(clips.values, BATCH)
    ]
    return torch.cat(pieces)


class FeatureCache:
    """Features by key.

    Args:
        how: ``memory`` keeps them for the life of this object, ``disk`` in the cache folder as well.
    """

    def __init__(self, how: Cache) -> None:
        self.how = how
        self.kept: dict[str, Tensor] = {}

    def get(self, network: nn.Module, clips: Ragged, about: Mapping[str, Any], device: torch.device) -> Ragged:
        """The features of these clips, computed where they are not there; which of both is logged."""
        key = key_of(network, clips, about)
        if key not in self.kept:
            self.kept[key] = self._found(key, network, clips, device)
        else:
            log.info("frame features of %d clips: kept in memory", len(clips))
        return Ragged(self.kept[key], clips.offsets)

    def _found(self, key: str, network: nn.Module, clips: Ragged, device: torch.device) -> Tensor:
        computed: list[Tensor] = []

        def build(folder: Path) -> None:
            computed.append(self._computed(network, clips, device))
            torch.save(computed[0], folder / FILE)

        if self.how == "memory":
            return self._computed(network, clips, device)
        folder = prepared(KIND, [], {"key": key, "probe": probe_of(network, clips, device)}, build)
        if not computed:
            log.info("frame features of %d clips: from the cache, %s", len(clips), folder)
        found: Tensor = torch.load(folder / FILE, weights_only=True)
        return found

    def _computed(self, network: nn.Module, clips: Ragged, device: torch.device) -> Tensor:
        log.info("frame features of %d clips: computed once, by the frozen frame network", len(clips))
        return compute(network, clips, device)
