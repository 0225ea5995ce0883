"""The verb bench: which engines it times, what it names, and its table."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_rnn import LSTM, bench
from lightning_rnn.errors import ConfigError

ROOT = Path(__file__).parents[1]


def test_bench_times_every_engine_and_names_the_choice() -> None:
    case = bench.Shape("lstm", False, False, 2, 3, 4, 5)
    (row,) = bench.measure([case], ["fused", "scan"], rounds=1, turn=0)
    assert set(row.seconds) == {"fused", "scan"} and min(row.seconds.values()) > 0 and not row.refused
    x = torch.zeros(2, 3, 4)
    assert row.chosen == LSTM(4, 5).explain(x).engine


def test_bench_keeps_the_reason_of_an_engine_that_does_not_run_a_case() -> None:
    (row,) = bench.measure([bench.Shape("gru", True, False, 2, 3, 4, 5)], ["parallel", "scan"], rounds=1, turn=0)
    assert set(row.seconds) == {"scan"} and "not linear" in row.refused["parallel"]


def test_bench_marks_a_choice_that_is_not_the_fastest() -> None:
    case = bench.Shape("gru", True, False, 2, 3, 4, 5)
    times = {"fused": 0.003, "scan": 0.001}
    rows = [bench.Row(case, times, {}, chosen) for chosen in ("fused", "scan", "native")]
    assert [row.cost for row in rows] == [pytest.approx(3.0), 1.0, None]
    lines = bench.table(rows, list(times))[1:]
    assert "3.000*    1.000   3.0 times the time of scan" in lines[0]
    assert "3.000     1.000*" in lines[1] and "times" not in lines[1]
    assert "auto takes native, which was not timed" in lines[2]


def test_bench_counts_turns_and_leaves_the_first_run_of_each_out(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    clock = iter([0.5, *[9.0, 1.0, 2.0], *[9.0, 5.0, 6.0]])
    monkeypatch.setattr(bench, "timed", lambda step: (step(), next(clock))[1])
    assert bench.by_turns({"a": lambda: called.append("a")}, rounds=2, turn=0) == {"a": pytest.approx(3.5)}
    assert len(called) == 1 + 1 + 2 * 3


def test_bench_is_a_verb_that_prints_a_table(capsys: Any) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert (
        tomllib.loads(text)["project"]["entry-points"]["lightning_rnn.commands"]["bench"] == "lightning_rnn.bench:main"
    )
    sizes = ["--batch", "2", "--steps", "3,4", "--inputs", "3", "--hidden", "5"]
    quick = ["--rounds", "1", "--turn", "0", "--cells", "gru", "--engines", "fused,scan", "--tune_cpu", "false"]
    assert bench.main([*sizes, *quick]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in lines[2:4]] == [["gru", "2", "3", "3", "5"], ["gru", "2", "4", "3", "5"]]
    assert len(lines) == 2 + 4 + 1 and lines[-1].endswith("of 4 cases")


def test_bench_asks_for_all_four_sizes() -> None:
    with pytest.raises(ConfigError, match="give --steps, --inputs, --hidden too"):
        bench.main(["--batch", "3"])
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--engines", "warp"])
