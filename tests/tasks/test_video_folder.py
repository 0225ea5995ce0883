"""Clips of one's own in a folder: frames in order, groups together, and what cannot be used named with its file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_rnn.cli import main
from lightning_rnn.errors import ConfigError, DataError
from tasks.video_classification import VideoData
from tasks.video_classification.folder import ClipFolder
from tasks.video_classification.reading import Frames, read_clip


def picture(path: Path, size: tuple[int, int] = (8, 6), shade: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 2 * shade, 0)).save(path)


def clip_folder(root: Path, people: int = 4, clips: int = 2) -> Path:
    """Two classes; the clips of each of several people, three frames each."""
    for name in ("run", "walk"):
        for person in range(people):
            for clip in range(clips):
                for frame in range(3):
                    picture(root / name / f"p{person}_c{clip}" / f"{frame}.png", shade=10 * person + clip)
    return root


def video(path: Path, frames: int = 6, title: str = "a") -> None:
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 32, 16
        for t in range(frames):
            image = np.full((16, 32, 3), 40 * t, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_frames_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for t in range(5):
        picture(tmp_path / "clip" / f"{t:02}.png", shade=10 * t)
    (tmp_path / "clip" / "notes.txt").write_text("passed over")
    clip = read_clip(tmp_path / "clip", Frames())
    assert clip.shape == (5, 3, 6, 8) and clip.dtype == torch.uint8
    assert clip[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40] and clip[2, :, 3, 3].tolist() == [20, 40, 0]
    some = read_clip(tmp_path / "clip", Frames((4, 4), gray=True, every=2, most=2))
    assert (
        some.shape == (2, 1, 4, 4)
        and some[1].unique().item()
        == clip[2].float().mul(torch.tensor([299.0, 587.0, 114.0]).view(3, 1, 1) / 1000).sum(0).round().unique().item()
    )


def test_frames_are_in_the_order_of_their_numbers_and_hidden_files_are_none(tmp_path: Path) -> None:
    for t in (1, 2, 10, 11, 9):
        picture(tmp_path / "clip" / f"frame{t}.png", shade=10 * t)
    (tmp_path / "clip" / "._frame1.png").write_bytes(b"left by a Mac")
    assert read_clip(tmp_path / "clip", Frames())[:, 0, 0, 0].tolist() == [10, 20, 90, 100, 110]
    assert read_clip(tmp_path / "clip", Frames(every=2, most=2))[:, 0, 0, 0].tolist() == [10, 90]


def test_pictures_that_are_not_taken_are_not_read(tmp_path: Path) -> None:
    picture(tmp_path / "clip" / "0.png")
    (tmp_path / "clip" / "1.png").write_bytes(b"no picture")
    assert len(read_clip(tmp_path / "clip", Frames(every=2))) == 1


@pytest.mark.parametrize("gray", [False, True])
def test_of_sixteen_bits_the_upper_eight_are_taken(gray: bool, tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300
    (tmp_path / "clip").mkdir()
    Image.fromarray(values).save(tmp_path / "clip" / "0.png")
    clip = read_clip(tmp_path / "clip", Frames(gray=gray))
    assert all((channel.numpy() == values // 256).all() for channel in clip[0])


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_every_kind_of_picture_is_the_same_frame(mode: str, tmp_path: Path) -> None:
    values = np.arange(0, 192, 4, dtype=np.uint8).reshape(6, 8)
    (tmp_path / "clip").mkdir()
    Image.fromarray(values).convert(mode).save(tmp_path / "clip" / "0.png")
    assert (read_clip(tmp_path / "clip", Frames())[0].numpy() == values).all()


def test_frames_of_a_video_are_its_frames(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    clip = read_clip(tmp_path / "a.mp4", Frames(every=2))
    assert clip.shape == (3, 3, 16, 32)
    assert (clip.float().mean((1, 2, 3)) - torch.tensor([0.0, 80.0, 160.0])).abs().max() < 6


def test_a_video_with_a_title_in_latin_1_is_read(tmp_path: Path) -> None:
    video(tmp_path / "a.mkv", title="TITLETITLE")
    whole = (tmp_path / "a.mkv").read_bytes()
    assert b"TITLETITLE" in whole
    (tmp_path / "a.mkv").write_bytes(whole.replace(b"TITLETITLE", "é".encode("latin-1") * 10))
    assert len(read_clip(tmp_path / "a.mkv", Frames())) == 6


def test_a_video_without_the_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"a.mp4 is a video, which needs the extra video"):
        read_clip(tmp_path / "a.mp4", Frames())


def test_no_group_is_in_two_parts_and_the_groups_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = ClipFolder(str(clip_folder(tmp_path, people=6)), group_pattern=r"p(\d+)_")
    data = VideoData(source, val_fraction=0.25)
    with caplog.at_level(logging.INFO):
        for stage in ("fit", "test"):
            data.setup(stage)
    people = {
        part: {str(data.split(part).row_id(row)).split("/")[1].split("_")[0] for row in range(len(data.split(part)))}
        for part in ("train", "val", "test")
    }
    assert not people["train"] & people["val"] and not (people["train"] | people["val"]) & people["test"]
    assert len(people["train"] | people["val"] | people["test"]) == 6
    for part in ("val", "test"):
        assert f"held out, the groups {', '.join(sorted(name[1:] for name in people[part]))}; " in caplog.text


def test_groups_of_a_table_are_those_of_the_pattern(tmp_path: Path) -> None:
    root = clip_folder(tmp_path / "clips")
    names = [f"{c}/{clip.name}" for c in ("run", "walk") for clip in sorted((root / c).iterdir())]
    table = tmp_path / "groups.csv"
    table.write_text("clip,group\n" + "".join(f"{name},{name.split('/')[1][1]}\n" for name in names))
    parts = [
        source.read(part)
        for source in (ClipFolder(str(root), group_pattern=r"/p(\d)"), ClipFolder(str(root), groups=str(table)))
        for part in ("train", "test")
    ]
    ids = [part.ids for part in parts if part is not None]
    assert ids[:2] == ids[2:] and len(ids) == 4
    table.write_text("clip,group\n" + "".join(f"{name},\n" for name in names))
    with pytest.raises(DataError, match="no group for the clip run/p0_c0"):
        ClipFolder(str(root), groups=str(table)).read("train")
    table.write_text("name,group\na,b\n")
    with pytest.raises(DataError, match="no column 'clip'"):
        ClipFolder(str(root), groups=str(table)).read("train")


def test_a_table_with_two_groups_of_a_clip_is_refused(tmp_path: Path) -> None:
    root = clip_folder(tmp_path / "clips")
    (tmp_path / "groups.csv").write_text("clip,group\nrun/p0_c0,a\nrun/p0_c0,b\n")
    with pytest.raises(DataError, match="two groups for the clip run/p0_c0, a and b"):
        ClipFolder(str(root), groups=str(tmp_path / "groups.csv")).read("train")


def test_clips_of_one_group_cannot_be_cut(tmp_path: Path) -> None:
    root = clip_folder(tmp_path)
    with pytest.raises(DataError, match=f"{root}: all 16 clips are of the group p, and whole groups"):
        ClipFolder(str(root), group_pattern="(p)").read("train")
    with pytest.raises(DataError, match="finds no group in the name"):
        ClipFolder(str(root), group_pattern="p(x)?").read("train")


def test_a_test_folder_is_tested_whole_and_nothing_is_held_out_for_it(tmp_path: Path) -> None:
    other = clip_folder(tmp_path / "other", people=1)
    source = ClipFolder(str(clip_folder(tmp_path / "clips")), test=str(other))
    train, test = source.read("train"), source.read("test")
    assert train is not None and test is not None and (len(train), len(test)) == (16, 4)
    assert test.labels == ["run", "run", "walk", "walk"] and test.ids == [
        "run/p0_c0", "run/p0_c1", "walk/p0_c0", "walk/p0_c1"
    ]  # fmt: skip
    picture(tmp_path / "one" / "run" / "a" / "0.png")
    alone = ClipFolder(str(tmp_path / "nowhere"), test=str(tmp_path / "one")).read("test")  # of one class
    assert alone is not None and alone.ids == ["run/a"]


def test_clips_without_classes_are_predicted_by_name(tmp_path: Path) -> None:
    known = VideoData(ClipFolder(str(clip_folder(tmp_path / "clips"))), val_fraction=0.0)
    known.setup("fit")
    for clip in ("new", "b10"):
        picture(tmp_path / "new" / clip / "0.png")
    data = VideoData(ClipFolder("nowhere", predict=str(tmp_path / "new")))
    data.spec = known.spec
    data.setup("predict")
    split = data.split("predict")
    assert [split.row_id(row) for row in range(len(split))] == ["b10", "new"]
    assert next(iter(data.predict_dataloader())).targets is None


def test_other_files_are_passed_over_which_the_log_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = clip_folder(tmp_path)
    (root / "run" / "p9.wmv").write_bytes(b"a video of another kind")
    (root / "walk" / "p0_c0" / "notes.txt").write_text("a")
    (root / ".cache").mkdir()
    ClipFolder(str(root)).read("train")
    assert f"{root}: 2 files are neither pictures" in caplog.text
    assert f"passed over, such as {root}/run/p9.wmv" in caplog.text


def break_picture(root: Path) -> str:
    path = root / "run" / "p1_c0" / "1.png"
    Image.fromarray(np.random.RandomState(0).randint(256, size=(6, 8, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:120])
    return r"run/p1_c0/1.png is not a whole picture"


def no_picture(root: Path) -> str:
    (root / "walk" / "p0_c0" / "0.png").write_text("hello")
    return r"walk/p0_c0/0.png is not a whole picture"


def another_size(root: Path) -> str:
    picture(root / "walk" / "p0_c1" / "2.png", (10, 6))
    return r"walk/p0_c1/2.png is 10 x 6 pixels, the clip's first frame 8 x 6: set source.size"


def clip_of_another_size(root: Path) -> str:
    for frame in range(3):
        picture(root / "walk" / "p0_c1" / f"{frame}.png", (10, 6))
    return r"walk/p0_c1 is 10 x 6 pixels, run/p0_c0 is 8 x 6: set source.size"


def no_frames(root: Path) -> str:
    (root / "walk" / "p9_c0").mkdir()
    return r"walk/p9_c0 has no frame"


def empty_class(root: Path) -> str:
    (root / "swim").mkdir()
    return r"swim has no clip"


def broken_video(root: Path) -> str:
    pytest.importorskip("av")
    (root / "run" / "p5_c0.mp4").write_bytes(b"not a video at all")
    return r"run/p5_c0.mp4 is not a whole video"


def loose_picture(root: Path) -> str:
    for name in ("loose", "a2"):
        picture(root / "run" / f"{name}.png")
    return r"run/a2.png is a picture beside the clips"


def clip_beside_classes(root: Path) -> str:
    (root / "p5.mp4").write_bytes(b"a video")
    return r"p5.mp4 is beside the folders of classes"


FAULTS = (break_picture, no_picture, another_size, clip_of_another_size, no_frames, empty_class, broken_video,
          loose_picture, clip_beside_classes)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_folder_that_cannot_be_used_is_named_with_its_file(fault: Callable[[Path], str], tmp_path: Path) -> None:
    words = fault(clip_folder(tmp_path))
    with pytest.raises(DataError, match=words) as raised:
        ClipFolder(str(tmp_path)).read("train")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("fault", [break_picture, another_size, no_frames], ids=lambda fault: fault.__name__)
def test_the_command_line_says_it_in_one_sentence(
    fault: Callable[[Path], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = fault(clip_folder(tmp_path / "clips")).replace("\\", "")
    command = "fit --model tasks.video_classification.VideoClassifier --data tasks.video_classification.VideoData"
    command += f" --data.source tasks.video_classification.folder.ClipFolder --data.source.folder {tmp_path}/clips"
    command += f" --trainer.accelerator cpu --trainer.max_epochs 1 --trainer.default_root_dir {tmp_path}/run"
    assert main(command.split()) == 1
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error and error.count("\n") == 1


def test_options_of_a_folder_out_of_range_are_named(tmp_path: Path) -> None:
    for options, words in (
        ({"size": [8]}, "source.size"), ({"every": 0}, "source.every"), ({"max_frames": 0}, "source.max_frames"),
        ({"test_fraction": 1.0}, "source.test_fraction"), ({"groups": "a", "group_pattern": "(b)"}, "not both"),
        ({"group_pattern": "b"}, "no bracket"), ({"group_pattern": "(b"}, "not a regular expression"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            ClipFolder(**options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no folder"):
        ClipFolder(str(tmp_path / "nowhere")).read("train")
    picture(tmp_path / "one" / "run" / "a" / "0.png")
    with pytest.raises(DataError, match="one has one class, run, two at least"):
        ClipFolder(str(tmp_path / "one")).read("train")
    with pytest.raises(DataError, match="finds no group in the name"):
        ClipFolder(str(clip_folder(tmp_path)), group_pattern=r"q(\d)").read("train")
