"""Moving digits: neither a frame nor the set of frames tells the class, their order does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lightning_rnn.errors import ConfigError
from tasks.video_classification.clips import keep_frames
from tasks.video_classification.moving import CLASSES, PLACES, MovingDigits, places, render


def test_every_class_visits_the_same_places_once() -> None:
    start = torch.rand(2, dtype=torch.float64).expand(len(CLASSES), 2)
    where = places(torch.arange(len(CLASSES)), start)
    sets = [{tuple(round(v, 9) for v in place) for place in clip.tolist()} for clip in where]
    assert len(sets[0]) == PLACES and all(one == sets[0] for one in sets)


def test_frames_of_all_classes_are_the_same_pictures_in_another_order() -> None:
    image = torch.randint(256, (1, 8, 8), dtype=torch.uint8).expand(len(CLASSES), 8, 8)
    where = places(torch.arange(len(CLASSES)), torch.rand(2, dtype=torch.float64).expand(len(CLASSES), 2))
    clips = render(image, where, 24)
    pictures = [sorted(frame.flatten().tolist() for frame in clip) for clip in clips]
    assert all(one == pictures[0] for one in pictures)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(clips, 2))


def test_the_name_of_a_class_is_its_motion() -> None:
    where = places(torch.arange(len(CLASSES)), torch.zeros(len(CLASSES), 2, dtype=torch.float64))
    moved = where[:, 1] - where[:, 0]
    moved = torch.where(moved > 0.5, moved - 1, moved)  # the shorter way around the torus
    for name, (down, right) in zip(CLASSES, moved.tolist(), strict=True):
        assert ("south" in name) == (down > 0) and ("east" in name) == (right > 0)
        assert np.hypot(down, right) * PLACES == pytest.approx(np.sqrt(13) * (2 if "fast" in name else 1))


def test_rendering_wraps_around() -> None:
    image = torch.arange(1, 7, dtype=torch.uint8).view(1, 2, 3)
    canvas = render(image, torch.tensor([[[0.8, 0.6]]], dtype=torch.float64), 5)[0, 0, 0].numpy()
    wanted = np.zeros((5, 5), np.uint8)
    for row, column in itertools.product(range(2), range(3)):
        wanted[(4 + row) % 5, (3 + column) % 5] = image[0, row, column]
    assert (canvas == wanted).all()


def test_parts_have_images_of_their_own_and_all_classes_alike() -> None:
    source = MovingDigits(train=64, val=32, test=32)
    images = {name: source._images(name) for name in ("train", "val", "test")}  # type: ignore[arg-type]
    assert len(images["train"]) + len(images["val"]) + len(images["test"]) == 1797
    for part in ("train", "val", "test"):
        clips = source.read(part)  # type: ignore[arg-type]
        assert clips.labels is not None
        assert {clips.labels.count(name) for name in CLASSES} == {len(clips) // len(CLASSES)}
    assert torch.equal(source.read("train").inputs.values, source.read("train").inputs.values)
    assert source.read("predict").labels == source.read("test").labels


def test_the_controls_keep_one_frame_or_none_of_the_order() -> None:
    clips = MovingDigits(train=16).read("train").inputs
    one, shuffled = keep_frames(clips, "one", 0), keep_frames(clips, "shuffled", 0)
    assert one.lengths.tolist() == [1] * 16 and shuffled.lengths.tolist() == clips.lengths.tolist()
    for row in range(16):
        frames = [frame.tobytes() for frame in clips[row].numpy()]
        assert one[row][0].numpy().tobytes() in frames
        assert sorted(frames) == sorted(frame.tobytes() for frame in shuffled[row].numpy())
    assert not torch.equal(shuffled.values, clips.values)
    assert torch.equal(shuffled.values, keep_frames(clips, "shuffled", 0).values)


def test_options_out_of_range_are_named() -> None:
    for options, words in (({"size": 7}, "at least 8"), ({"val": 0}, "source.val"), ({"seed": -1}, "source.seed")):
        with pytest.raises(ConfigError, match=words):
            MovingDigits(**options)  # type: ignore[arg-type]
