"""The benchmarks' own arithmetic: tables, ratios, turns; and that what is timed computes the same."""

from __future__ import annotations

import gc
import importlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_rnn import LSTM, StepOptions

ROOT = Path(__file__).parents[1]


# Keras' own: its variables lack an argument that NumPy 2 asks for
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parts of ``benchmarks/layers.py`` by name, as that script imports them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(name if name == "layers" else f"speed.{name}")


def record(group: str, shape: str, seconds: dict[str, list[float]], cell: str = "lstm", **rest: Any) -> dict[str, Any]:
    case = {"cell": cell, "shape": {"name": shape}, "mode": "training", "option": "plain"} | rest
    first = next(iter(seconds))
    name = f"{group} {cell} {shape} {case['option']}"
    return {"group": group, "name": name, "case": case, "seconds": seconds, "first": first, "errors": {}, "busy": 0.0}


def tiny(speed: Any, cell: str, option: str = "plain", layers: int = 1, **rest: Any) -> Any:
    cases = speed("cases")
    return cases.Case(cell, cases.Shape("tiny", 4, 6, 3, 8, layers), option=option, **rest)


def test_a_target_is_the_median_or_the_worst_of_the_ratios_of_medians(speed: Any) -> None:
    report = speed("report")
    records = [
        record("torch", "keras", {"ours": [1.0, 2.0, 90.0], "torch": [4.0, 4.0, 4.0]}),
        record("torch", "mid", {"ours": [1.0], "torch": [10.0]}),
        record("torch", "pixel", {"ours": [8.0], "torch": [10.0]}),
        record("torch", "pixel", {"ours": [99.0], "torch": [10.0]}, cell="gru"),
        record("torch", "pixel", {"ours": [99.0], "torch": [10.0]}, mode="inference"),
        record("packed", "pixel", {"ours": [99.0], "torch": [10.0]}),
    ]
    median = report.Target("", "torch", 0.65, "median", cells=("lstm",))
    assert report.verdict(median, records) == ("0.50", "yes")
    worst = report.Target("", "torch", 0.5, cells=("lstm",))
    assert report.verdict(worst, records) == ("0.80 (LSTM pixel); 1 of 3 above", "no")
    narrow = report.Target("", "torch", 0.5, cells=("lstm",), shapes=("keras", "mid"))
    assert report.verdict(narrow, records) == ("0.50 (LSTM keras)", "yes")
    assert report.verdict(report.Target("", "keras", 0.5), records) == ("not measured", "–")
    loud = [one | {"busy": 1.0} for one in records]
    assert report.verdict(narrow, loud) == ("0.50 (LSTM keras), beside other load", "–")


def test_several_rivals_count_as_the_fastest_and_no_contender_named_as_each(speed: Any) -> None:
    report = speed("report")
    keras = record("keras", "keras", {"ours": [2.0], "keras torch": [8.0], "keras jax": [1.0]})
    target = report.Target("", "keras", 1.0, theirs=("keras torch", "keras jax", "keras xla"))
    assert report.verdict(target, [keras]) == ("2.00 (LSTM keras); 1 of 1 above", "no")
    options = record("options", "mid", {"plain": [2.0], "peephole": [3.0], "zoneout": [5.0]})
    target = report.Target("", "options", 1.5, ours="", theirs=("plain",))
    assert report.verdict(target, [options]) == ("2.50 (LSTM mid zoneout); 1 of 2 above", "no")


def test_tables_show_medians_ratios_what_is_left_out_and_other_load(speed: Any) -> None:
    report = speed("report")
    one = record("torch", "keras", {"ours": [0.001, 0.003], "torch": [0.004]}) | {"errors": {"floor": "none"}}
    rows = report.detail("torch", [one, record("torch", "mid", {"ours": [0.5], "floor": [0.25]}) | {"busy": 1.5}])
    assert rows[2:] == [
        "|  | ours | torch | floor |",
        "|---|---|---|---|",
        "| LSTM keras training | 2.00 | 4.00 (0.50) |  |",
        "| LSTM mid training (beside 1.5 cores of other load) | 500.00 |  | 250.00 (2.00) |",
    ]
    options = record("options", "keras", {"plain": [0.002], "zoneout": [0.003]})
    assert report.detail("options", [options])[-2:] == ["| plain | 2.00 |", "| zoneout | 3.00 (1.50) |"]


def test_a_page_holds_every_group_of_every_number_of_threads(speed: Any) -> None:
    report = speed("report")
    machine = {"cpu": "A CPU", "flags": ["avx2"], "torch": "2", "date": "today"}
    records = [
        record(group, "keras", {"ours": [1.0], "torch": [2.0]}) | {"machine": machine} for group in ("torch", "packed")
    ]
    page = report.document({1: records, 2: records[:1]})
    assert page.count("## 1 thread\n") == page.count("## 2 threads\n") == page.count("### packed, 1 thread") == 1
    assert "A CPU (avx2), torch 2, today." in page
    assert f"| {report.TARGETS[0].text} | ≤ 0.65 | 0.50 | yes |" in page


def test_newer_records_replace_older_ones_of_their_name(speed: Any, tmp_path: Path) -> None:
    report, layers = speed("report"), speed("layers")
    old = [record("torch", name, {"ours": [1.0]}) for name in ("keras", "mid")]
    new = [record("torch", "mid", {"ours": [7.0]})]
    layers.write(tmp_path / "x.jsonl", report.merge(old, new))
    assert [one["seconds"]["ours"] for one in report.read(tmp_path / "x.jsonl")] == [[1.0], [7.0]]
    assert report.read(tmp_path / "none.jsonl") == []


def test_every_group_compares_contenders_that_exist(speed: Any) -> None:
    cases, report = speed("cases"), speed("report")
    found = cases.comparisons(cases.Choice(tuple(cases.GROUPS), engine="scan"))
    assert len({one.name for one in found}) == len(found)
    names = {(one.group, contender.name) for one in found for contender in one.contenders}
    for target in report.TARGETS:
        wanted = {*target.theirs, *filter(None, [target.ours])}
        assert {(target.group, name) for name in wanted} <= names, target.text
        shapes = {one.case.shape.name for one in found if one.group == target.group}
        assert set(target.shapes) <= shapes, target.text
    engines = {(c.worker, c.case.engine) for one in found for c in one.contenders}
    assert {engine for worker, engine in engines if worker == "ours"} == {"scan"}


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
@pytest.mark.parametrize("option", ["plain", "bidirectional", "lengths"])
@pytest.mark.parametrize("mode", ["training", "inference"])
def test_ours_and_torch_compute_the_same(speed: Any, tmp_path: Path, cell: str, option: str, mode: str) -> None:
    case = tiny(speed, cell, option, layers=2, mode=mode)
    cases, run = speed("cases"), speed("run")
    for name, work in (("ours", speed("work_ours").Ours), ("torch", speed("work_torch").Torch)):
        work(case).save(str(tmp_path / f"{name}.npz"))
    contenders = tuple(cases.Contender(name, name, case, "same") for name in ("ours", "torch"))
    found = run.check(cases.Comparison("torch", case, contenders), {"ours": {}, "torch": {}}, tmp_path)
    assert found["torch"] < 1e-5
    with np.load(tmp_path / "ours.npz") as saved:
        assert np.abs(saved["output"]).max() > 0.01
        assert ("weight_hh_l1" in saved.files) == (mode == "training")


@pytest.mark.parametrize("dtype", ["bfloat16", "autocast"])
def test_bfloat16_is_near_float32(speed: Any, tmp_path: Path, dtype: str) -> None:
    cases, run, work = speed("cases"), speed("run"), speed("work_ours")
    contenders = tuple(cases.Contender(n, "ours", tiny(speed, "lstm", dtype=n), "near") for n in ("float32", dtype))
    for one in contenders:
        work.Ours(one.case).save(str(tmp_path / f"{one.name}.npz"))
    found = run.check(cases.Comparison("bf16", contenders[0].case, contenders), {"float32": {}, dtype: {}}, tmp_path)
    assert 1e-5 < found[dtype] < 0.1


@pytest.mark.parametrize("key", ["output", "weight_hh_l0"])
def test_contenders_that_differ_are_not_timed(speed: Any, tmp_path: Path, key: str) -> None:
    cases, run = speed("cases"), speed("run")
    case = tiny(speed, "gru")
    arrays = {"output": np.ones(3), "weight_hh_l0": np.ones(3)}
    np.savez(tmp_path / "ours.npz", **arrays)
    np.savez(tmp_path / "torch.npz", **(arrays | {key: np.ones(3) * 1.01}))
    contenders = tuple(cases.Contender(name, name, case, "same") for name in ("ours", "torch"))
    with pytest.raises(ArithmeticError, match=f"ours and torch differ in {key}"):
        run.check(cases.Comparison("torch", case, contenders), {"ours": {}, "torch": {}}, tmp_path)


def test_every_option_runs_on_every_cell_that_has_it(speed: Any) -> None:
    work = speed("work_ours")
    for option, cells in speed("cases").OPTIONS.items():
        for cell in cells:
            one = work.Ours(tiny(speed, cell, option))
            one.step()
            assert all(p.grad is not None for p in one.layer.parameters()), (cell, option)


def test_options_change_what_is_computed(speed: Any) -> None:
    work = speed("work_ours")
    plain = work.Ours(tiny(speed, "lstm")).run()
    for option in (
        "recurrent dropout",
        "zoneout",
        "cell_clip",
        "relu",
        "hard_sigmoid",
        "mask with holes",
        "reset_mask",
    ):
        one = work.Ours(tiny(speed, "lstm", option))
        one.x = one.x * 50  # so that a clip clips
        assert not torch.equal(one.run(), plain), option


def test_the_floor_is_the_products_of_the_layer(speed: Any) -> None:
    floor = speed("work_floor").Floor(tiny(speed, "gru", layers=2))
    floor.step()
    for i, layer in enumerate(floor.layers):
        x, h, gates = (t.flatten(0, 1) for t in (layer.x, layer.h, layer.gates))
        torch.testing.assert_close(gates, x @ layer.weight_ih.T)
        torch.testing.assert_close(layer.recurrent, layer.h[-1] @ layer.weight_hh.T)
        torch.testing.assert_close(layer.dh, layer.gates[-1] @ layer.weight_hh)
        torch.testing.assert_close(layer.grad_ih, gates.T @ x)
        torch.testing.assert_close(layer.grad_hh, gates.T @ h)
        if i:
            torch.testing.assert_close(layer.dx, gates @ layer.weight_ih)


def test_masks_have_the_form_they_are_named_for(speed: Any) -> None:
    arrays = speed("arrays")
    right, left, holes = (arrays.valid(tiny(speed, "gru", name)) for name in arrays.MASKED)
    assert (np.diff(right.astype(int), axis=1) <= 0).all() and (
        right.sum(1) == arrays.lengths(tiny(speed, "gru"))
    ).all()
    assert (np.diff(left.astype(int), axis=1) >= 0).all()
    assert (np.diff(holes.astype(int), axis=1) > 0).any() and (np.diff(holes.astype(int), axis=1) < 0).any()
    _, v = arrays.inputs(tiny(speed, "gru", "mask with holes"))
    assert not v[~holes].any() and v[holes].all()


@pytest.mark.parametrize(
    ("cell", "option"),
    [("lstm", "plain"), ("gru", "plain"), ("gru", "reset_after=False"), ("simple_rnn", "mask with holes")],
)
def test_keras_computes_the_same_with_our_weights(speed: Any, tmp_path: Path, cell: str, option: str) -> None:
    cases, run, case = speed("cases"), speed("run"), tiny(speed, cell, option)
    speed("work_ours").Ours(case).save(str(tmp_path / "ours.npz"))
    speed("work_keras").builder("keras torch")(case).save(str(tmp_path / "keras torch.npz"))
    contenders = tuple(cases.Contender(name, name, case, "same") for name in ("ours", "keras torch"))
    found = run.check(cases.Comparison("keras", case, contenders), {"ours": {}, "keras torch": {}}, tmp_path)
    assert found["keras torch"] < 1e-5


@pytest.mark.parametrize("option", ["peephole", "layer_norm addons"])
def test_the_cells_written_for_keras_are_ours(speed: Any, option: str) -> None:
    work = speed("work_keras").builder("keras torch")(tiny(speed, "lstm", option))
    rng = np.random.default_rng(0)
    work.model.set_weights([rng.normal(0, 0.5, w.shape) for w in work.model.get_weights()])
    kernel, recurrent, bias, *rest = (torch.from_numpy(w) for w in work.model.get_weights())
    peephole = option == "peephole"
    ours = LSTM(3, 8, step_options=StepOptions(peephole=peephole, layer_norm="none" if peephole else "addons"))
    names = (
        ["weight_ch"] if peephole else [f"norm_{on}_{what}" for on in ("ih", "hh", "c") for what in ("weight", "bias")]
    )
    weights = {"weight_ih": kernel.T, "weight_hh": recurrent.T, "bias_ih": bias, "bias_hh": torch.zeros_like(bias)}
    ours.load_state_dict({f"{n}_l0": w for n, w in (weights | dict(zip(names, rest, strict=True))).items()})
    x = speed("arrays").inputs(work.case)[0]
    torch.testing.assert_close(ours(torch.from_numpy(x)).sequence, work.model(x))


class Counter:
    engine = "a counter"
    count = 0

    def step(self) -> None:
        self.count += 1

    def save(self, path: str) -> None:
        Path(path).write_text("saved")


def test_a_worker_answers_line_by_line_and_survives_errors(speed: Any, tmp_path: Path) -> None:
    worker, counter = speed("worker"), Counter()
    case = tiny(speed, "gru").to_json()
    requests = [
        {"do": "prepare", "key": "a", "case": case, "save": str(tmp_path / "file")},
        {"do": "time", "key": "a", "repeats": 3},
        {"do": "time", "key": "b", "repeats": 3},
        {"do": "drop"},
        {"do": "time", "key": "a", "repeats": 3},
    ]
    answers = io.StringIO()
    worker.serve(lambda case: counter, io.StringIO("".join(json.dumps(one) + "\n" for one in requests)), answers)
    found = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert found[0]["engine"] == "a counter" and (tmp_path / "file").exists()
    assert len(found[1]["seconds"]) == 3 and counter.count == 5  # two to prepare
    assert found[2] == found[4] | {"error": "KeyError: 'b'"} and found[3] == {}


def test_processes_take_turns_and_one_that_cannot_is_left_out(speed: Any) -> None:
    cases, run = speed("cases"), speed("run")
    case = tiny(speed, "gru")
    with run.Crew(1) as crew:
        contenders = (
            cases.Contender("ours", "ours", tiny(speed, "gru", engine="scan"), "same"),
            cases.Contender("torch", "torch", case, "same"),
            cases.Contender("torch zoneout", "torch", tiny(speed, "gru", "zoneout")),
        )
        (found,) = run.run(crew, [cases.Comparison("torch", case, contenders)], run.Pace(2, 0.001), lambda line: None)
    assert {name: len(turns) for name, turns in found["seconds"].items()} == {"ours": 2, "torch": 2}
    assert found["engines"] == {"ours": "scan", "torch": "torch.nn"} and found["agree"]["torch"] < 1e-5
    assert found["errors"] == {"torch zoneout": "ValueError: torch.nn has no zoneout"}
    assert cases.Case.from_json(found["case"]) == case


def test_a_worker_that_cannot_start_says_why(speed: Any) -> None:
    with speed("run").Crew(1, peers=sys.executable) as crew:
        reply = crew.worker("keras of another kind").ask(do="drop")
    assert reply["error"] == "its process has ended: KeyError: 'keras of another kind'"


def test_a_program_that_is_not_there_leaves_no_file_open(speed: Any) -> None:
    with speed("run").Crew(1, peers="/nowhere/python") as crew, pytest.raises(FileNotFoundError, match="/nowhere"):
        crew.worker("keras torch")
    gc.collect()  # an open file would warn here, which is an error


def test_slow_contenders_have_fewer_turns(speed: Any) -> None:
    pace = speed("run").Pace(rounds=15, turn=0.2, slow=3.0)
    assert [pace.turns(first) for first in (0.01, 3.5, 31.0)] == [15, 2, 1]
    assert [pace.repeats(first) for first in (1e-6, 0.02, 5.0)] == [50, 10, 1]


def test_a_busy_machine_and_wrong_options_are_refused(speed: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    layers = speed("layers")
    monkeypatch.setattr(layers, "busy", lambda: 1.0)
    assert layers.main([]) == 1
    assert "1.0 cores are in use by something else" in capsys.readouterr().err
    assert layers.main(["--busy", "--peers", "/nowhere/python"]) == 1
    assert "/nowhere/python is no program" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        layers.main(["--only", "nothing"])
