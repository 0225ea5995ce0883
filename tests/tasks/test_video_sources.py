"""Spoken digits and skeletons as clips: cut as their sets say, and what cannot be used is named."""

from __future__ import annotations

import io
import os
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_rnn.data import NpzSeries
from lightning_rnn.errors import ConfigError, DataError
from lightning_rnn.functional.spectra import log_mel
from tasks.video_classification import VideoData
from tasks.video_classification.skeletons import JHMDB_PAIRS, Skeletons
from tasks.video_classification.speech import SpokenDigits

DATA = Path(os.environ.get("LIGHTNING_RNN_DATA", "data"))


def sound(samples: int = 900, rate: int = 8000, seed: int = 0) -> bytes:
    values = np.random.RandomState(seed).randint(-9000, 9000, samples).astype("<i2")
    with wave.open(stream := io.BytesIO(), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(values.tobytes())
    return stream.getvalue()


def recordings(folder: Path, speakers: tuple[str, ...] = ("ann", "bob", "cem")) -> Path:
    folder.mkdir()
    for digit in range(2):
        for speaker in speakers:
            for number in (0, 4, 5, 12):
                name = f"{digit}_{speaker}_{number}.wav"
                (folder / name).write_bytes(sound(900 + 10 * number, seed=digit))
    return folder


def test_spoken_digits_are_cut_as_their_readme_says(tmp_path: Path) -> None:
    source = SpokenDigits(str(recordings(tmp_path / "wavs")))
    train, test = source.read("train"), source.read("test")
    assert train is not None and test is not None and train.ids is not None and test.ids is not None
    assert {name.split("_")[2] for name in map(str, test.ids)} == {"0.wav", "4.wav"}
    assert {name.split("_")[2] for name in map(str, train.ids)} == {"5.wav", "12.wav"}
    assert train.labels == [str(name)[0] for name in train.ids]
    raw = np.frombuffer((tmp_path / "wavs" / str(test.ids[0])).read_bytes()[44:], "<i2") / 2**15
    torch.testing.assert_close(test.inputs[0], log_mel(torch.from_numpy(raw), 8000))  # type: ignore[index]


def test_an_archive_of_sounds_is_read_as_the_folder(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "wavs")
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, f"recordings/{file.name}")
    parts = [SpokenDigits(str(path)).read("train") for path in (folder, tmp_path / "a.tar.xz")]
    assert parts[0] is not None and parts[1] is not None and parts[0].ids == parts[1].ids
    assert torch.equal(parts[0].inputs.values, parts[1].inputs.values)  # type: ignore[union-attr]


def test_one_speaker_is_left_out_and_another_validates(tmp_path: Path) -> None:
    data = VideoData(SpokenDigits(str(recordings(tmp_path / "wavs")), "speaker", "bob"), val_fraction=0.3)
    for stage in ("fit", "test"):
        data.setup(stage)
    speakers = [
        {str(data.split(part).row_id(row)).split("_")[1] for row in range(len(data.split(part)))}
        for part in ("train", "val", "test")
    ]
    assert speakers[2] == {"bob"} and len(speakers[0]) == len(speakers[1]) == 1 and speakers[0] != speakers[1]


def test_sounds_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "wavs")
    with pytest.raises(DataError, match="no speaker 'dan', only ann, bob, cem"):
        SpokenDigits(str(folder), "speaker", "dan").read("train")
    (folder / "1_ann_7.wav").write_bytes(sound(rate=16000))
    with pytest.raises(DataError, match=r"1_ann_7.wav has 16000 samples a second, not 8000"):
        SpokenDigits(str(folder)).read("train")
    (folder / "1_ann_7.wav").rename(folder / "one.wav")
    with pytest.raises(DataError, match=r"one.wav is not named digit_speaker_number.wav"):
        SpokenDigits(str(folder)).read("train")
    with pytest.raises(DataError, match="no archive or folder"):
        SpokenDigits(str(tmp_path / "none.tar.xz")).read("train")
    with pytest.raises(ConfigError, match=r"source.bands must be above 0"):
        SpokenDigits(bands=0)


def poses(path: Path, **changes: object) -> Path:
    random = np.random.RandomState(0)
    arrays: dict[str, object] = {"classes": np.array(["run", "walk"])}
    for part, n in (("train", 6), ("test", 2)):
        arrays[f"{part}_pose"] = random.randn(n, 5, 15, 2).astype(np.float32)
        arrays[f"{part}_len"], arrays[f"{part}_y"] = np.array([5, 3] * (n // 2)), np.array([0, 1] * (n // 2))
    np.savez(path, **arrays | changes)  # type: ignore[arg-type]
    return path


def test_skeletons_are_rows_of_joints_without_padding(tmp_path: Path) -> None:
    clips = Skeletons(str(poses(tmp_path / "a.npz"))).read("train")
    assert clips is not None and clips.labels == ["run", "walk"] * 3 and clips.joints == 15
    assert clips.inputs.lengths.tolist() == [5, 3] * 3  # type: ignore[union-attr]
    stored = np.load(tmp_path / "a.npz")["train_pose"]
    assert np.array_equal(clips.inputs[1].numpy(), stored[1, :3].reshape(3, 30))  # type: ignore[index]


def test_skeletons_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    bad = np.zeros((6, 5, 15, 2), np.float32)
    bad[3, 1, 2, 0] = np.nan
    for change, words in (
        ({"train_len": np.array([5, 0, 5, 3, 5, 3])}, "train_len, row 1: 0 frames of 5"),
        ({"train_len": np.array([5, 3])}, "6 clips, 2 lengths"),
        ({"train_y": np.array([0, 1, 2, 1, 0, 1])}, "train_y, row 2: the class 2, of 2"),
        ({"train_pose": bad}, "train_pose, row 3: a joint is missing"),
        ({"train_pose": bad[:, :, :, 0]}, r"train_pose: \[6, 5, 15\] is not"),
    ):
        with pytest.raises(DataError, match=words):
            Skeletons(str(poses(tmp_path / "a.npz", **change))).read("train")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="names joint 15"):
        Skeletons(str(poses(tmp_path / "a.npz")), pairs=[[3, 15]]).read("train")


@pytest.mark.skipif(not (DATA / "action/jhmdb14_split1.npz").is_file(), reason="needs the skeletons in the data folder")
def test_the_stored_skeletons_are_433_and_176_and_their_pairs_are_left_and_right() -> None:
    train, test = Skeletons().read("train"), Skeletons().read("test")
    assert train is not None and test is not None and (len(train), len(test)) == (433, 176)
    points = train.inputs.values.view(-1, 15, 2)  # type: ignore[union-attr]
    limb = [(points[:, a] - points[:, b]).norm(dim=1).mean() for a, b in ((3, 7), (4, 8), (9, 13), (10, 14))]
    assert abs(limb[0] - limb[1]) < 0.02 and abs(limb[2] - limb[3]) < 0.02
    depth = points[..., 1].mean(0)
    assert all(abs(depth[right] - depth[left]) < 0.03 for right, left in JHMDB_PAIRS)


def test_clusters_of_similar_skeletons_stay_together(tmp_path: Path) -> None:
    path, random = str(poses(tmp_path / "a.npz")), np.random.RandomState(0)
    kinds = random.randn(8, 1, 15, 2).repeat(5, 0) * 10 + random.randn(40, 1, 15, 2)  # of each kind five
    clips = {"train_pose": (kinds + np.zeros((1, 4, 1, 1))).astype(np.float32), "train_len": np.full(40, 4)}
    poses(tmp_path / "a.npz", **clips, train_y=np.arange(40) // 5 % 2)
    data = VideoData(Skeletons(path, clusters=4), val_fraction=0.3)
    data.setup("fit")
    kind = [
        {int(str(data.split(part).row_id(row)).split()[1]) // 5 for row in range(len(data.split(part)))}
        for part in ("train", "val")
    ]
    assert kind[1] and not kind[0] & kind[1] and len(kind[0] | kind[1]) == 8


def test_series_of_other_sources_are_clips_of_vectors(tmp_path: Path) -> None:
    x, y = np.random.RandomState(0).randn(12, 7, 3), np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = VideoData(NpzSeries(train=str(tmp_path / "a.npz"), test=str(tmp_path / "a.npz")), val_fraction=0.25)
    data.setup("fit")
    assert data.spec is not None and (data.spec.kind, data.spec.shape, data.spec.joints) == ("vectors", [3], 0)
