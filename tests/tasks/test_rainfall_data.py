"""The competition's files as they are read, what is wrong with broken ones, and the generator beside the real."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_rnn.errors import DataError
from tasks.rainfall import RainfallData, reader
from tasks.rainfall.baselines import marshall_palmer
from tasks.rainfall.reader import read_hours
from tasks.rainfall.schema import FEATURES, TEST_COLUMNS, TRAIN_COLUMNS, Hours, join
from tasks.rainfall.sources import KaggleRain, SyntheticRain
from tasks.rainfall.synthetic import stream, synthesize, write_csv

HEADER = ",".join(TRAIN_COLUMNS)
REAL = ("rain2_train_rows_real.csv", "rain2_train_complete_hours_real.csv", "rain2_train_id23513_real.csv")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path / "cache"))


def row(hour: object = 1, minute: object = 5, ref: object = 20.5, expected: object = 1.27) -> list[str]:
    return [str(cell) for cell in (hour, minute, 10, ref, *[""] * 19, expected)]


def write(path: Path, rows: list[list[str]], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    return path


def same(one: Hours, other: Hours) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_schema_is_the_competition_s() -> None:
    assert len(TRAIN_COLUMNS) == 24 and len(TEST_COLUMNS) == 23
    assert TRAIN_COLUMNS[:7] == (
        "Id", "minutes_past", "radardist_km", "Ref", "Ref_5x5_10th", "Ref_5x5_50th", "Ref_5x5_90th",
    )  # fmt: skip
    assert TRAIN_COLUMNS[-4:] == ("Kdp_5x5_10th", "Kdp_5x5_50th", "Kdp_5x5_90th", "Expected")


@pytest.mark.parametrize("block", [100, 1000, 1 << 23])
@pytest.mark.parametrize("packing", ["", ".gz", ".zip"])
def test_what_was_written_is_read_whatever_the_blocks_and_the_packing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, packing: str
) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    made, path = synthesize(40, seed=3), tmp_path / "train.csv"
    write_csv(path, [made])
    if packing == ".gz":
        path = tmp_path / "train.csv.gz"
        path.write_bytes(gzip.compress((tmp_path / "train.csv").read_bytes()))
    elif packing:
        path = tmp_path / "train.csv.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / "train.csv", "train.csv")
    same(join(list(read_hours(path, labelled=True))), made)


def test_columns_in_another_order_windows_lines_and_no_last_newline_change_nothing(tmp_path: Path) -> None:
    rows = [row(1, 50), row(1, 5, ""), row(2)]
    plain = join(list(read_hours(write(tmp_path / "a.csv", rows), labelled=True)))
    turned = [cells[::-1] for cells in rows]
    other = tmp_path / "b.csv"
    other.write_bytes("\r\n".join([",".join(TRAIN_COLUMNS[::-1]), *map(",".join, turned)]).encode())
    same(join(list(read_hours(other, labelled=True))), plain)
    assert plain.values[:2, 0].tolist() == [5, 50], "scans are in the order of their minutes"


BAD: dict[str, tuple[Callable[[], tuple[list[list[str]], str]], str]] = {
    "a column missing": (
        lambda: ([cells[:-1] for cells in [row()]], HEADER.removesuffix(",Expected")),
        r"train.csv, row 1: there is no column 'Expected'",
    ),
    "a column misspelt": (lambda: ([row()], HEADER.replace("Zdr,", "ZDR,")), r"row 1: there is no column 'Zdr'"),
    "a column twice": (lambda: ([[*row(), "1"]], f"{HEADER},Ref"), r"row 1: the column 'Ref' is there 2 times"),
    "no number": (lambda: ([row(), row(1, 9, "wet")], HEADER), r"row 3, column 'Ref': 'wet' is not a finite number"),
    "infinite": (lambda: ([row(), row(1, 9, "inf")], HEADER), r"row 3, column 'Ref': 'inf' is not a finite number"),
    "too large": (lambda: ([row(1, 5, "1e39")], HEADER), r"row 2, column 'Ref': '1e39' is not a finite number"),
    "blank": (lambda: ([row(1, 5, " ")], HEADER), r"row 2, column 'Ref': ' ' is not a finite number"),
    "an empty line": (lambda: ([row(), [""], row()], HEADER), r"row 3: 1 fields where the first row has 24"),
    "a short row": (lambda: ([row(), row()[:-1]], HEADER), r"row 3: 23 fields where the first row has 24"),
    "a short and a long row": (lambda: ([row()[:-1], [*row(), "1"]], HEADER), r"row 2: 23 fields"),
    "an Id that comes again": (
        lambda: ([row(1), row(2), row(2, 9), row(1, 30)], HEADER),
        r"row 5: the Id 1 comes again",
    ),
    "an Id with a fraction": (lambda: ([row(1.5)], HEADER), r"row 2, column 'Id': 1.5 is not a whole number"),
    "an Id missing": (lambda: ([row(), row("")], HEADER), r"row 3, column 'Id': nan is not a whole number"),
    "no minute": (lambda: ([row(1, "")], HEADER), r"row 2, column 'minutes_past': nan is not from 0 to 60"),
    "Expected missing": (
        lambda: ([row(), row(2, 3, 5, "")], HEADER),
        r"row 3, column 'Expected': it is missing: fill it in, or",
    ),
    "Expected negative": (lambda: ([row(2, 3, 5, -1)], HEADER), r"row 2, column 'Expected': it is negative"),
    "Expected of two minds": (
        lambda: ([row(), row(1, 9, 5, 2)], HEADER),
        r"row 3, column 'Expected': it is another one than in the hour's first row",
    ),
    "no rows": (lambda: ([], HEADER), r"no rows under its header"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("block", [64, 1 << 23])
def test_bad_input_is_named_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, block: int
) -> None:
    monkeypatch.setattr(reader, "BLOCK", block)
    make, message = BAD[name]
    path = write(tmp_path / "train.csv", *make())
    with pytest.raises(DataError, match=message) as caught:
        list(read_hours(path, labelled=True))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_broken_archives_and_missing_files_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "train.csv.zip"
    broken.write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"not a whole .zip file"):
        list(read_hours(broken, labelled=True))
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", HEADER)
        archive.writestr("b.csv", HEADER)
    with pytest.raises(DataError, match=r"holds 2 .csv files, not one"):
        list(read_hours(tmp_path / "two.zip", labelled=True))
    with pytest.raises(DataError, match="no file"):
        KaggleRain(train=str(tmp_path / "absent.csv")).read("train")


def test_marshall_palmer_equals_the_loop_of_the_competition_s_sample() -> None:
    made = synthesize(300, seed=1)
    amounts = []
    for first, last in zip(made.offsets[:-1], made.offsets[1:], strict=True):
        minutes, ref = made.values[first:last, 0].astype(float), made.values[first:last, 2].astype(float)
        valid = np.zeros_like(minutes)
        valid[0] = minutes[0]
        for i in range(1, len(minutes)):
            valid[i] = minutes[i] - minutes[i - 1]
        valid[-1] = valid[-1] + 60 - valid.sum()
        total = 0.0
        for dbz, hours in zip(ref, valid / 60, strict=True):
            if np.isfinite(dbz):
                total += ((10 ** (dbz / 10)) / 200) ** 0.625 * hours
        amounts.append(total)
    np.testing.assert_allclose(marshall_palmer(made.values, made.offsets), amounts, rtol=1e-12, atol=1e-12)


def test_marshall_palmer_of_the_real_hour_2_has_the_published_digits(data_root: Path) -> None:
    hours = join(list(read_hours(data_root / "rain" / REAL[1], labelled=True)))
    amount = marshall_palmer(hours.values, hours.offsets)[hours.ids.tolist().index(2)]
    assert f"{amount:.12f}" == "0.630814032327"


@pytest.mark.parametrize("name", REAL)
def test_real_rows_are_read_as_they_are(data_root: Path, name: str) -> None:
    path = data_root / "rain" / name
    hours = join(list(read_hours(path, labelled=True)))
    header, *lines = path.read_text().split()
    assert hours.lengths.sum() == len(lines)
    places = [header.split(",").index(feature) for feature in FEATURES]
    cells = [[line.split(",")[place] for place in places] for line in lines]
    wanted = np.array([[float(cell or "nan") for cell in row] for row in cells], np.float32)
    np.testing.assert_array_equal(hours.values, wanted)


def test_store_is_prepared_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "train.csv", synthesize(30, seed=5)
    write_csv(path, [made])
    source = KaggleRain(train=str(path), predict=None)
    store = source.read("train")
    assert store is not None
    np.testing.assert_array_equal(store.scans.values.numpy(), made.values)
    np.testing.assert_array_equal(store.scored, made.scored)
    calls = []
    monkeypatch.setattr("tasks.rainfall.sources.read_hours", lambda *_: calls.append(1) or iter([made]))
    source.read("train")
    assert not calls, "a prepared file is not read again"
    write_csv(path, [synthesize(30, seed=6)])
    source.read("train")
    assert calls


def test_parts_hold_the_hours_that_they_should() -> None:
    source = SyntheticRain(train_hours=2000, test_hours=300, seed=4)
    data = RainfallData(source, val_fraction=0.2, max_expected=73)
    data.setup("fit")
    data.setup("test")
    data.setup("predict")
    made, held_out = synthesize(2000, seed=4), synthesize(300, seed=5)
    train, val = (data.split(name) for name in ("train", "val"))
    ids = [{part.row_id(row) for row in range(len(part))} for part in (train, val)]
    assert not ids[0] & ids[1]
    scored = set(made.ids[made.scored].tolist())
    absurd = set(made.ids[made.expected >= 73].tolist())
    assert ids[0] | (ids[1] - absurd) == scored - absurd and ids[1] & absurd, "outliers are left out of training alone"
    assert abs(len(ids[1]) / len(scored) - 0.2) < 0.01
    assert len(data.split("test")) == held_out.scored.sum() and len(data.split("predict")) == 300
    assert data.spec is not None
    kept = np.isin(np.repeat(made.ids, made.lengths), list(ids[0]))
    np.testing.assert_allclose(data.spec.mean, np.nanmean(made.values[kept].astype(float), axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.spec.std, np.nanstd(made.values[kept].astype(float), axis=0), rtol=1e-5)


def test_batches_hold_the_hours_scans_and_their_gauges() -> None:
    data = RainfallData(SyntheticRain(train_hours=200, test_hours=50))
    data.setup("predict")
    batch, made = data.split("predict").__getitems__([7, 3]), synthesize(50, seed=1)
    assert batch.lengths is not None
    for place, hour in enumerate((7, 3)):
        scans = batch.inputs[place, : batch.lengths[place]]
        torch.testing.assert_close(
            scans, torch.from_numpy(made.values[made.offsets[hour] : made.offsets[hour + 1]]), equal_nan=True
        )
        assert batch.targets[place] == made.expected[hour]


# The generator: every figure of the calibration file, 200,000 hours. Feature: share of missing values in percent, mean
# and standard deviation; the generator the figures were noted for had these, with the real files' in brackets.

CALIBRATION = """
Ref                    51.6 (53.9)  22.39 (22.92)  9.62 (10.35)
Ref_5x5_10th           60.7 (61.6)  20.43 (19.95)  8.88 (9.20)
Ref_5x5_50th           51.6 (53.8)  22.37 (22.61)  9.60 (10.05)
Ref_5x5_90th           42.3 (45.1)  24.67 (25.89)  10.62 (11.10)
RefComposite           47.0 (51.2)  23.52 (24.71)  10.14 (10.68)
RefComposite_5x5_10th  56.0 (58.2)  21.53 (22.15)  9.34 (9.70)
RefComposite_5x5_50th  47.0 (51.2)  23.52 (24.42)  10.11 (10.42)
RefComposite_5x5_90th  37.8 (43.1)  25.84 (27.36)  11.18 (11.49)
RhoHV                  62.2 (64.2)  0.97 (0.97)  0.07 (0.09)
RhoHV_5x5_10th         69.3 (70.0)  0.91 (0.91)  0.08 (0.12)
RhoHV_5x5_50th         62.2 (64.1)  0.97 (0.97)  0.07 (0.07)
RhoHV_5x5_90th         54.9 (57.1)  1.00 (1.01)  0.07 (0.04)
Zdr                    62.2 (64.2)  0.51 (0.53)  1.42 (1.51)
Zdr_5x5_10th           69.3 (70.0)  -0.68 (-0.71)  1.12 (1.00)
Zdr_5x5_50th           62.2 (64.1)  0.31 (0.33)  0.85 (0.93)
Zdr_5x5_90th           54.9 (57.1)  2.07 (2.07)  1.44 (1.67)
Kdp                    67.0 (69.6)  -0.01 (0.03)  3.45 (3.86)
Kdp_5x5_10th           74.0 (75.1)  -3.67 (-3.48)  2.31 (2.79)
Kdp_5x5_50th           67.1 (69.6)  -0.46 (-0.47)  2.15 (2.26)
Kdp_5x5_90th           60.6 (63.3)  4.02 (4.07)  3.61 (4.14)
""".strip().splitlines()
ROUNDED = 0.005  # the figures have two decimals
NOT_THE_REAL = {"RhoHV_5x5_10th", "RhoHV_5x5_90th"}  # the two deviations that are not in reach of both


@pytest.fixture(scope="module")
def many() -> Hours:
    return join(list(stream(200_000, seed=0)))


@pytest.mark.parametrize("line", CALIBRATION, ids=lambda line: line.split()[0])
def test_features_have_the_calibrated_missing_shares_means_and_deviations(many: Hours, line: str) -> None:
    name, *figures = line.split()
    column = many.values[:, FEATURES.index(name)].astype(float)
    missing, mean, deviation = 100 * np.isnan(column).mean(), np.nanmean(column), np.nanstd(column)
    for place in (0, 1):  # what the file notes of its generator, and of the real data
        share, center, spread = (float(figure.strip("()")) for figure in figures[place::2])
        assert missing == pytest.approx(share, abs=3)
        allowed = 0.12 * max(abs(center), 0 if abs(center) > 0.1 else spread)  # of a mean near 0: of the deviation
        assert mean == pytest.approx(center, abs=allowed + ROUNDED)
        if place == 0 or name not in NOT_THE_REAL:
            assert deviation == pytest.approx(spread, abs=0.12 * spread + ROUNDED)


def test_hours_and_baselines_have_the_calibrated_figures(many: Hours) -> None:
    scored, gauge = many.scored, many.expected.astype(float)
    formula, shown = marshall_palmer(many.values, many.offsets)[scored], gauge[scored]
    clean = shown < 73
    for figures in ((11.56, 0.400), (11.66, 0.3805)):  # noted of the generator, and of the real data
        assert many.lengths.mean() == pytest.approx(figures[0], rel=0.03)
        assert (~scored).mean() == pytest.approx(figures[1], abs=0.03)
    assert many.lengths[scored].mean() == pytest.approx(12.47, rel=0.03)
    for formula_mae, median_mae in ((22.90, 23.51), (23.13, 23.53)):
        assert np.abs(formula - shown).mean() == pytest.approx(formula_mae, rel=0.03)
        assert np.abs(1.27 - shown).mean() == pytest.approx(median_mae, rel=0.03)
    assert np.abs(formula - shown)[clean].mean() == pytest.approx(2.421, rel=0.03)
    assert np.abs(1.27 - shown)[clean].mean() == pytest.approx(2.775, rel=0.03)
    filtered = shown[shown < 103]
    assert filtered.mean() == pytest.approx(3.58, rel=0.12) and filtered.std() == pytest.approx(7.84, rel=0.12)
    assert np.median(shown) == pytest.approx(1.27, abs=0.26)  # a step of the gauge
    assert np.median(filtered) == pytest.approx(1.27, abs=0.26)
    weighted = np.repeat(gauge, many.lengths)
    assert np.quantile(weighted, [0.25, 0.5]) == pytest.approx([0.508, 1.016], abs=0.26)
    assert np.quantile(weighted, 0.75) == pytest.approx(3.048, rel=0.15)
    assert weighted.mean() == pytest.approx(112.3, rel=0.12)


def test_masks_are_nested_as_in_the_real_rows(many: Hours, data_root: Path) -> None:
    real = join(list(read_hours(data_root / "rain" / REAL[1], labelled=True)))
    for hours in (many, real):
        there = {name: ~np.isnan(hours.values[:, place]) for place, name in enumerate(FEATURES)}
        for field in ("Ref", "RefComposite", "RhoHV", "Zdr", "Kdp"):
            low, middle, high = (there[f"{field}_5x5_{quantile}"] for quantile in ("10th", "50th", "90th"))
            assert not (low & ~middle).any() and not (middle & ~high).any()
        assert not (there["Ref"] & ~there["RefComposite"]).any() and not (there["Kdp"] & ~there["RhoHV"]).any()
        assert (there["RhoHV"] == there["Zdr"]).all()


def test_generator_gives_the_same_hours_in_order_and_others_for_another_seed() -> None:
    one, again, other = synthesize(50, seed=0), synthesize(50, seed=0), synthesize(50, seed=1)
    same(one, again)
    assert not np.array_equal(one.expected, other.expected)
    assert one.ids.tolist() == list(range(1, 51)) and one.lengths.min() >= 1 and one.lengths.max() <= 19
    minutes = [one.values[a:b, 0] for a, b in zip(one.offsets[:-1], one.offsets[1:], strict=True)]
    assert all((np.diff(hour) >= 0).all() and hour.max() < 60 for hour in minutes)
    assert not re.search("e", " ".join(f"{v:.4f}" for v in one.expected)) and one.expected.min() >= 0.01
