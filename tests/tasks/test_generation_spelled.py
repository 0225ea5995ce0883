"""Images and their names: parts, languages, the convolutions, and pictures."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch

from lightning_rnn.cli import main
from lightning_rnn.data.digits import Digits
from lightning_rnn.errors import ConfigError, DataError
from tasks.generation.conditions import encode_conditions
from tasks.generation.data import GenerationData
from tasks.generation.images import ImageEncoder
from tasks.generation.spelled import NAMES, SpelledDigits, SpelledMNIST

PARTS = ("train", "val", "test")


def test_every_digit_is_in_one_part() -> None:
    parts = [SpelledDigits().read(part) for part in PARTS]
    ids = [one for part in parts if part is not None and part.ids is not None for one in part.ids]
    assert sorted(map(int, ids)) == list(range(1797))


@pytest.mark.parametrize("language", list(NAMES))
def test_names_are_those_of_the_digits(language: str) -> None:
    part, digits = SpelledDigits(language).read("test"), Digits().read("test")  # type: ignore[arg-type]
    assert part is not None and digits is not None and digits.labels is not None and part.texts is not None
    assert part.texts == [NAMES[language][int(label)] for label in digits.labels]  # type: ignore[index]
    assert torch.equal(torch.stack(list(part.given)), digits.inputs.values.view(-1, 8, 8))  # type: ignore[union-attr]


def test_a_language_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="'latin' is not one of english, french, german"):
        SpelledDigits("latin")  # type: ignore[arg-type]


def write_idx(path: Path, values: torch.Tensor) -> None:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.to(torch.uint8).numpy().tobytes()))


def idx_folder(folder: Path, labels: torch.Tensor) -> Path:
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", torch.randint(0, 256, (len(labels), 12, 12)))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    return folder


def test_images_in_mnists_format_are_read(tmp_path: Path) -> None:
    data = GenerationData(SpelledMNIST(str(idx_folder(tmp_path, torch.arange(10).repeat(3)))))
    data.setup("fit")
    assert data.spec is not None and data.spec.image == [12, 12]
    assert (len(data.split("train")), len(data.split("val"))) == (20, 10)


def test_a_label_that_is_no_digit_is_named(tmp_path: Path) -> None:
    source = SpelledMNIST(str(idx_folder(tmp_path, torch.tensor([1, 2, 10]))))
    with pytest.raises(DataError, match="the label '10', which is no digit"):
        source.read("test")


def test_the_convolutions_see_the_image_as_rows_and_columns() -> None:
    """Moving an image by a pixel moves what the convolutions give, as flat pixels would not."""
    encoder = ImageEncoder([8, 6], 5, [3]).eval()
    convolution = encoder.features[0]
    image = torch.rand(8, 6)
    image[0], image[:, 0] = 0, 0
    moved = image.roll((1, 1), (0, 1))
    one, other = (convolution(x.flatten().view(-1, 1, *encoder.image))[0] for x in (image, moved))
    torch.testing.assert_close(one[:, 1:6, 1:4], other[:, 2:7, 2:5])
    assert encoder(torch.rand(3, 48)).shape == (3, 5)


def test_pixels_in_another_unit_are_refused() -> None:
    """Scikit-learn's own digits go from 0 to 16, the model's from 0 to 1."""
    source = SpelledDigits()
    train = source.read("train")
    assert train is not None
    spec = source.describe(train)
    assert encode_conditions(spec, train.given[:2]).shape == (2, 64)
    with pytest.raises(DataError, match=r"condition 2 has a pixel of .*, those trained on are 0 to 1: scale it"):
        encode_conditions(spec, [train.given[0], 16 * train.given[1]])


@pytest.mark.parametrize(("channels", "said"), [([], "numbers above 0"), ([4, 4, 4, 4], "to nothing")])
def test_convolutions_that_do_not_fit_are_refused(channels: list[int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ImageEncoder([8, 8], 5, channels)


def test_a_run_with_convolutions_draws_what_it_wrote(tmp_path: Path) -> None:
    config = tmp_path / "digits.yaml"
    config.write_text(
        """
model: {class_path: tasks.generation.Generator, init_args: {encoder: cnn, image_channels: [4], val_rows: 20}}
data: {class_path: tasks.generation.GenerationData}
trainer: {accelerator: cpu, max_epochs: 1, limit_train_batches: 3}
"""
    )
    assert main(["fit", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "figures" / "written_val.png").stat().st_size > 1000
    assert not (tmp_path / "run" / "figures" / "drawings_val.png").exists()
