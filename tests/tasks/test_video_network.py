"""The network of clips: padding is never seen, frozen networks stay, features and augmentation are their equations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.layers.table import CellName
from tasks.video_classification.augmentation import Augmentation, augment, masked, mirrored, rotated, warp
from tasks.video_classification.frame_networks import features_of, from_class_path, load_weights
from tasks.video_classification.joints import VectorFeatures
from tasks.video_classification.network import FrameFeatures, NetworkOptions, VideoNetwork
from tasks.video_classification.skeletons import JHMDB_PAIRS
from tasks.video_classification.spec import VideoSpec

FRAMES = VideoSpec("frames", [1, 8, 8], ["a", "b", "c"], [1, 1, 1])
JOINTS = VideoSpec("vectors", [30], ["a", "b"], [1, 1], 15, JHMDB_PAIRS)


def options(**changes: Any) -> NetworkOptions:
    values: dict[str, Any] = {
        "cell": "gru", "hidden_size": 6, "num_layers": 1, "bidirectional": False, "pooling": ["last"],
        "frame_network": None, "freeze": False, "conv_channels": [4], "frame_size": None, "features": ["value"],
        "normalize": True, "input_dropout": 0.0, "layer_dropout": 0.0, "dropout": 0.0,
    }  # fmt: skip
    return NetworkOptions(**values | changes)


class Counting(nn.Module):
    """Says how many frames it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return x.flatten(1)


def test_padding_is_seen_by_no_network_and_no_statistics_while_training() -> None:
    torch.manual_seed(0)
    network = VideoNetwork(FRAMES, options())
    lengths = torch.tensor([3, 5])
    clips = torch.randint(256, (2, 5, 1, 8, 8), dtype=torch.uint8)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = []
    for junk in (0, 255):
        network.load_state_dict(state)
        network.train()
        padded = clips.clone()
        padded[0, 3:] = junk
        found.append((network(padded, lengths), network.frames.every.layer[1].running_mean.clone()))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_the_frame_network_runs_once_for_a_batch_and_on_valid_frames_alone() -> None:
    counting = Counting()
    frames = FrameFeatures(counting, [1, 4, 4], freeze=False)
    counting.seen.clear()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found = frames(torch.ones(2, 3, 1, 4, 4), mask)
    assert counting.seen == [3] and found.shape == (2, 3, 16)
    assert torch.equal(found.any(2), mask)


def test_bytes_are_scaled_and_floats_are_not() -> None:
    frames = FrameFeatures(nn.Flatten(), [1, 2, 2], freeze=False)
    clip = torch.randint(256, (1, 3, 1, 2, 2), dtype=torch.uint8)
    torch.testing.assert_close(frames(clip), clip.flatten(2) / 255)
    torch.testing.assert_close(frames(clip / 255), clip.flatten(2) / 255)


def test_each_frame_is_what_the_network_makes_of_it_alone() -> None:
    torch.manual_seed(0)
    network = VideoNetwork(FRAMES, options()).eval()
    clips = torch.rand(2, 4, 1, 8, 8)
    layer = network.frames.every.layer
    alone = torch.stack([torch.stack([layer(frame.unsqueeze(0))[0] for frame in clip]) for clip in clips])
    torch.testing.assert_close(network.frames(clips), alone)
    torch.testing.assert_close(network(network.frames(clips)), network(clips))


def test_a_frozen_network_keeps_weights_and_statistics_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    network = VideoNetwork(FRAMES, options(freeze=True)).train()
    layer = network.frames.every.layer
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    clips = torch.randint(256, (4, 5, 1, 8, 8), dtype=torch.uint8)
    for _ in range(3):
        optimizer.zero_grad()
        network(clips, torch.tensor([5, 4, 3, 1])).square().sum().backward()
        optimizer.step()
    assert not layer.training and network.rnn.training
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert network.head.weight.grad is not None


@pytest.mark.parametrize("cell", get_args(CellName))
def test_any_cell_runs_in_both_directions_and_padding_changes_nothing(cell: CellName) -> None:
    torch.manual_seed(0)
    network = VideoNetwork(JOINTS, options(cell=cell, num_layers=2, bidirectional=True, pooling=["mean", "last"]))
    network.eval()
    clips, lengths = torch.randn(2, 6, 30), torch.tensor([4, 6])
    longer = torch.cat([clips, torch.full((2, 3, 30), 7.0)], 1)
    torch.testing.assert_close(network(clips, lengths), network(longer, lengths), rtol=1e-4, atol=1e-5)


def test_vector_features_are_their_equations() -> None:
    random = np.random.RandomState(0)
    clip = random.randn(5, 3, 2)
    layer = VectorFeatures(6, ["value", "motion", "fast_motion", "distance"], joints=3)
    found = layer(torch.from_numpy(clip.reshape(1, 5, 6)))[0].numpy()
    relative = clip - clip.mean(1, keepdims=True)
    size = math.sqrt(np.mean(np.sum(relative**2, axis=2)))
    for t in range(5):
        wanted = [*(relative[t] / size).flatten()]
        for lag in (1, 2):
            wanted += [*((clip[t] - clip[t - lag]) / size).flatten()] if t >= lag else [0.0] * 6
        wanted += [np.linalg.norm(clip[t, i] - clip[t, j]) / size for i, j in ((0, 1), (0, 2), (1, 2))]
        np.testing.assert_allclose(found[t], wanted, rtol=1e-6, atol=1e-9)
    assert layer.output_size == found.shape[1]


def test_scale_and_place_of_a_skeleton_change_no_feature() -> None:
    layer = VectorFeatures(30, ["value", "motion", "distance"], joints=15)
    clip, lengths = torch.randn(2, 6, 30, dtype=torch.float64), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    moved = 3 * clip + torch.tensor([2.0, -1.0]).repeat(15)
    torch.testing.assert_close(layer(clip, lengths), layer(moved, lengths))


def test_turned_and_mirrored_skeletons_keep_their_distances() -> None:
    layer = VectorFeatures(30, ["distance"], joints=15)
    clip = torch.randn(2, 4, 30, dtype=torch.float64)
    turned = rotated(clip, torch.tensor([0.3, -1.0], dtype=torch.float64))
    torch.testing.assert_close(layer(turned), layer(clip))
    torch.testing.assert_close(layer(turned)[0], layer(clip)[0])
    twice = mirrored(mirrored(clip, JHMDB_PAIRS), JHMDB_PAIRS)
    torch.testing.assert_close(twice, clip)
    points, other = clip.view(2, 4, 15, 2), mirrored(clip, JHMDB_PAIRS).view(2, 4, 15, 2)
    torch.testing.assert_close(other[:, :, 3, 0], -points[:, :, 4, 0])
    torch.testing.assert_close(other[:, :, 0, 1], points[:, :, 0, 1])


def test_a_warped_clip_is_a_slowed_stretch_of_itself() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([9, 5])
    line = torch.arange(9.0).view(1, 9, 1).repeat(2, 1, 1)
    found = warp(line, lengths, 0.5)
    for row, length in enumerate(lengths.tolist()):
        steps = found[row, :length, 0].diff()
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=1e-5, rtol=0)
        assert 0.5 <= steps[0] <= 1 and found[row, 0, 0] >= 0 and found[row, length - 1, 0] <= length - 1
        assert torch.equal(found[row, length:], line[row, length:])


def test_masks_hide_a_span_of_steps_and_of_features_at_most() -> None:
    torch.manual_seed(0)
    x, lengths = torch.randn(50, 20, 10), torch.full((50,), 20)
    hidden = masked(x, lengths, 4, 3) != x
    assert hidden.all(2).sum(1).max() == 4 and hidden.all(1).sum(1).max() == 3
    assert hidden.all(2).sum(1).min() == 0


def test_augmentation_changes_what_it_is_asked_to_and_nothing_else() -> None:
    x, lengths = torch.randn(3, 6, 30), torch.tensor([6, 6, 6])
    assert torch.equal(augment(x, lengths, Augmentation()), x)
    for how in ({"noise": 0.1}, {"shift": 1.0}, {"zoom": 0.3}, {"rotate": 20.0}, {"warp": 0.5}, {"mask_steps": 3}):
        torch.manual_seed(1)
        assert not torch.equal(augment(x, lengths, Augmentation(**how)), x), how  # type: ignore[arg-type]


def test_a_class_path_that_is_no_frame_network_is_named() -> None:
    for chosen, words in (
        ({"class_path": "no.such.Net"}, "no.such.Net cannot be imported"),
        ({"class_path": "torch.nn.NoNet"}, "torch.nn.NoNet cannot be imported .it has no NoNet"),
        ({"class_path": "Net"}, "Net cannot be imported"),
        ({"class_path": "torch.nn.Linear"}, "does not take its init_args"),
        ({"class_path": "pathlib.Path"}, "not an nn.Module"),
        ({"init_args": {}}, "must be a class_path"),
        ({"class_path": "torch.nn.Flatten", "width": 3}, "must be a class_path"),
    ):
        with pytest.raises(ConfigError, match=words):
            from_class_path(chosen)


def test_a_network_that_gives_no_vector_for_each_frame_is_named() -> None:
    for network, words in (
        (nn.Conv2d(1, 2, 3), r"makes \[2, 2, 6, 6\] of 2 frames, one vector for each"),
        (nn.Flatten(0), "one vector for each"),
        (nn.Conv2d(3, 2, 3), "cannot take frames"),
        (nn.LSTM(8, 2), "cannot take frames|makes tuple"),
    ):
        with pytest.raises(ConfigError, match=words):
            features_of(network, [1, 8, 8])


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "other.pt")
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    for name, words in (("none.pt", "no file"), ("broken.pt", "no file of weights"), ("other.pt", "another network")):
        with pytest.raises(DataError, match=words):
            load_weights(nn.Linear(4, 2), str(tmp_path / name))
