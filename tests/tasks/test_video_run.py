"""Runs of the classifier of clips: cached features change nothing, checkpoints rebuild what a class path named."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_rnn.cli import main
from lightning_rnn.data import Ragged
from lightning_rnn.errors import ConfigError, DataError
from tasks.video_classification import VideoClassifier, VideoData
from tasks.video_classification.cache import FeatureCache
from tasks.video_classification.drawing import strip_of
from tasks.video_classification.moving import MovingDigits
from tasks.video_classification.network import FrameFeatures
from tasks.video_classification.spec import VideoSpec

pytestmark = pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # frozen ones, by Lightning
NORMED = {"class_path": f"{__name__}.Normed", "init_args": {"size": 5}}


class Normed(nn.Sequential):
    """With statistics of batches, and dropout: what must not move in a frozen network."""

    def __init__(self, size: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(144, size), nn.BatchNorm1d(size), nn.Dropout(0.5))


def data(**options: Any) -> VideoData:
    return VideoData(MovingDigits(size=12, train=24, val=16, test=16), batch_size=8, **options)


def trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        **{"max_epochs": 2, **options},
    )  # fmt: skip


def fitted(folder: Path, module: VideoClassifier, clips: VideoData | None = None) -> dict[str, Tensor]:
    run = trainer(folder)
    run.fit(module, clips or data())
    return {name: value.clone() for name, value in module.network.state_dict().items()}


def frozen(cache: str, seed: int = 0) -> VideoClassifier:
    torch.manual_seed(seed)
    return VideoClassifier(hidden_size=4, conv_channels=[3], frame_size=5, freeze=True, cache=cache)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The features' alone: the native engine is kept in the cache too, and is not to be made anew."""
    monkeypatch.setattr("lightning_rnn.data.cache.cache_path", lambda kind: tmp_path / "cache" / kind)


def test_kept_features_change_no_weight_and_no_prediction(tmp_path: Path) -> None:
    weights, scores = [], []
    for cache in ("none", "memory", "disk", "disk"):
        module, clips = frozen(cache), data()
        weights.append(fitted(tmp_path, module, clips))
        clips.setup("test")
        scores.append(torch.cat([module.eval()(batch) for batch in clips.test_dataloader()]))
    for other_weights, other_scores in zip(weights[1:], scores[1:], strict=True):
        for name, value in other_weights.items():
            torch.testing.assert_close(value, weights[0][name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(other_scores, scores[0], rtol=1e-4, atol=1e-5)


def test_features_are_computed_once_and_the_log_says_where_they_come_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        fitted(tmp_path, frozen("disk"))
        assert caplog.text.count("computed once, by the frozen frame network") == 2  # training and validation
        caplog.clear()
        fitted(tmp_path, frozen("disk"))
        assert "computed once" not in caplog.text and caplog.text.count("from the cache, ") == 2
        caplog.clear()
        fitted(tmp_path, frozen("disk", seed=1))
        assert caplog.text.count("computed once") == 2, "other weights took the features of these"


def test_a_frozen_network_sees_each_frame_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: (seen.append(len(x)), forward(self, x))[1])
    fitted(tmp_path, frozen("memory"))
    assert sum(seen) == 13 * (24 + 16) + 2  # and two to try it out
    seen.clear()
    fitted(tmp_path, frozen("none"))
    assert sum(seen) == 2 * 13 * (24 + 16) + 2


class Scaled(nn.Module):
    """Of code that may change, without weights."""

    factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.flatten(1)


def test_features_of_a_network_whose_code_changed_are_not_taken_from_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips, network = Ragged.from_list([torch.rand(5, 1, 2, 2)]), FrameFeatures(Scaled(), [1, 2, 2], freeze=True)
    found = [FeatureCache("disk").get(network, clips, {}, torch.device("cpu")).values]
    monkeypatch.setattr(Scaled, "factor", 2.0)
    found.append(FeatureCache("disk").get(network, clips, {}, torch.device("cpu")).values)
    assert torch.equal(2 * found[0], found[1])


def test_changed_frames_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    module, clips = frozen("memory"), data()
    fitted(tmp_path, module, clips)
    split = clips.split("train")
    before = module.frame_features(split)  # type: ignore[arg-type]
    split.inputs.values[0] += 1
    assert not torch.equal(before.values, module.frame_features(split).values)  # type: ignore[arg-type]


def test_a_network_by_class_path_is_plain_in_the_checkpoint_and_rebuilt_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("sys").modules[Normed.__module__])
    module, clips = VideoClassifier(hidden_size=4, frame_network=NORMED, freeze=True), data()
    run = trainer(tmp_path)
    run.fit(module, clips)
    run.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["frame_network"] == NORMED
    loaded = VideoClassifier.load_from_checkpoint(tmp_path / "a.ckpt", map_location="cpu", weights_only=True)
    assert isinstance(loaded.network.frames.every.layer, Normed)
    rows = [clips.split("val").inputs[row] for row in range(6)]
    torch.testing.assert_close(loaded.classify(rows)["probability"], module.classify(rows)["probability"])


def test_frame_weights_are_where_a_run_starts(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = Normed(5)
    torch.save(network.state_dict(), tmp_path / "frames.pt")
    chosen = {"class_path": "torch.nn.Sequential"}
    module = VideoClassifier(frame_network=chosen, frame_weights=str(tmp_path / "frames.pt"), freeze=True)
    with pytest.raises(ConfigError, match="one vector for each"):
        fitted(tmp_path, module)  # an empty sequence gives the frames back
    module = frozen("memory")
    torch.save(frozen_layer(tmp_path), tmp_path / "ours.pt")
    module.frame_weights = str(tmp_path / "ours.pt")
    weights = fitted(tmp_path, module)
    for name, value in torch.load(tmp_path / "ours.pt").items():
        assert torch.equal(weights[f"frames.every.layer.{name}"], value)


def test_frame_weights_start_no_run_that_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    torch.save(frozen_layer(tmp_path), tmp_path / "ours.pt")
    options = {"hidden_size": 4, "conv_channels": [3], "frame_size": 5, "frame_weights": str(tmp_path / "ours.pt")}
    run = trainer(tmp_path, max_epochs=1)
    run.fit(VideoClassifier(**options), data())
    run.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    module = VideoClassifier(**options)
    trainer(tmp_path, max_epochs=1).fit(module, data(), ckpt_path=tmp_path / "a.ckpt")  # nothing is left to train
    assert all(torch.equal(value, saved[f"network.{name}"]) for name, value in module.network.state_dict().items())


def frozen_layer(folder: Path) -> dict[str, Tensor]:
    module = frozen("none", seed=7)
    fitted(folder, module)
    return module.network.frames.every.layer.state_dict()


@pytest.mark.parametrize("options", [{"freeze": True}, {"frame_weights": "a.pt"}])
def test_a_frame_network_that_is_not_there_is_named(options: dict[str, Any]) -> None:
    spec = VideoSpec("vectors", [3], ["a", "b"], [1, 1])
    with pytest.raises(ConfigError, match=f"model.{next(iter(options))} is for a frame network, and there is none"):
        VideoClassifier(**options).build(spec)


def test_clips_of_another_shape_are_not_classified() -> None:
    module = VideoClassifier(hidden_size=4)
    module.spec = VideoSpec("frames", [1, 8, 8], ["a", "b"], [1, 1])
    module.configure_model()
    good = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    assert len(module.classify([good])["prediction"]) == 1
    for bad in (good[:0], good.permute(0, 2, 3, 1), good[0]):
        with pytest.raises(DataError, match=r"clip 1: \[.*the model is for \[T, 1, 8, 8\]"):
            module.classify([good, bad])


def test_options_that_do_not_fit_the_clips_are_named(tmp_path: Path) -> None:
    for options, words in (
        ({"noise": 0.1}, "model.noise is for clips of vectors"),
        ({"features": ["motion"]}, "model.features is for clips of vectors"),
        ({"frame_network": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 3, "out_features": 2}}},
         "Linear cannot take frames"),
        ({"hidden_size": 0}, "model.hidden_size"), ({"warp": 1.5}, "model.warp"), ({"zoom": -1.0}, "model.zoom"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            fitted(tmp_path, VideoClassifier(**options))


COMMAND = "--model tasks.video_classification.VideoClassifier --model.hidden_size 4 --model.conv_channels [3]"
COMMAND += " --data tasks.video_classification.VideoData --data.source tasks.video_classification.moving.MovingDigits"
COMMAND += " --data.source.size 12 --data.source.train 32 --data.source.val 16 --data.source.test 24"
COMMAND += " --trainer.accelerator cpu --trainer.max_epochs 1"


def test_verbs_write_figures_and_predictions(tmp_path: Path) -> None:
    for verb in ("fit", "test", "predict"):
        assert main(f"{verb} {COMMAND} --trainer.default_root_dir {tmp_path}/run".split()) == 0
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"learning_curves.png", "confusion_matrix_test.png", "worst_mistakes_test.png"} <= figures
    with (tmp_path / "run" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 and rows[0]["id"].startswith("predict 0 of image ") and rows[0]["label"]


def test_a_frame_network_is_given_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    chosen = "--model.frame_network.class_path torch.nn.Flatten --model.freeze true --model.cache disk"
    assert main(f"fit {COMMAND} {chosen} --trainer.default_root_dir {tmp_path}/run".split()) == 0
    assert "frame features of 32 clips: computed once" in caplog.text
    assert main(f"test {COMMAND} {chosen} --trainer.default_root_dir {tmp_path}/run".split()) == 0
    for path, words in (("no.such.Net", "cannot be imported"), ("torch.nn.Identity", "one vector for each")):
        wrong = f"--model.frame_network.class_path {path}"
        assert main(f"fit {COMMAND} {wrong} --trainer.default_root_dir {tmp_path}/{path}".split()) == 2
        error = capsys.readouterr().err
        assert words in error and "Traceback" not in error


def test_a_strip_shows_first_and_last_frame() -> None:
    clip = torch.arange(1, 14, dtype=torch.uint8).view(13, 1, 1, 1).expand(13, 1, 4, 5)
    strip = strip_of(clip)
    assert strip.shape == (9, 23, 1) and strip[0, 0] == 1 and strip[-1, -1] == 13


def test_texts_are_no_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_rnn.data import LabelledText

    (tmp_path / "train.csv").write_text("text,label\n" + "good,pos\nbad,neg\n" * 4)
    clips = VideoData(LabelledText(train=str(tmp_path / "train.csv")))
    with pytest.raises(DataError, match="these are texts, not clips"):
        clips.setup("fit")
