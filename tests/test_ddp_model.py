"""The model of several processes: its formula by hand, its fit from known constants, its tables, its networks."""

from __future__ import annotations

import importlib
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[1]
MIB = 1 << 20


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parts of ``benchmarks/ddp.py`` by name, as that script imports them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(f"ddp_{name}" if name else "ddp")


@pytest.mark.parametrize(
    ("n", "ring", "tree", "share"), [(2, 2, 2, 1.0), (4, 6, 4, 1.5), (5, 8, 6, 1.6), (8, 14, 6, 1.75)]
)
def test_a_ring_sends_all_but_two_nths_twice(part: Any, n: int, ring: int, tree: int, share: float) -> None:
    model = part("model")
    assert (model.hops(n, "ring"), model.hops(n, "tree")) == (ring, tree)
    assert model.volume(1000, n) == pytest.approx(1000 * share)


def test_communication_by_hand(part: Any) -> None:
    model = part("model")
    link = model.Link(bandwidth=1e9, latency=1e-4)
    assert model.communication(400_000, 1, link) == 0.0
    # one bucket and three flags, each 6 hops of 0.1 ms on 4 processes; 2 * 3 / 4 * 400 kB at 1 GB/s
    assert model.communication(400_000, 4, link) == pytest.approx(4 * 6 * 1e-4 + 6e-4)
    # 60 MiB: 1 + ceil(59 / 25) = 4 buckets; a tree of 4 is 4 hops deep
    tree = model.Link(1e9, 1e-4, "tree")
    assert model.communication(60 * MIB, 4, tree) == pytest.approx((4 + 3) * 4 * 1e-4 + 1.5 * 60 * MIB / 1e9)


def test_a_sum_in_a_ring_is_simulated_to_what_the_formula_says(part: Any) -> None:
    model = part("model")
    n, size, link = 5, 1000, model.Link(2e6, 3e-3)
    chunks = [[float(rank * n + i) for i in range(n)] for rank in range(n)]
    seconds = sent = 0.0
    for turn in range(2 * (n - 1)):  # first sums go round, then what they came to
        moving = [(rank, (rank - turn) % n if turn < n - 1 else (rank + 1 - (turn - n + 1)) % n) for rank in range(n)]
        values = [chunks[rank][i] for rank, i in moving]
        for (rank, i), value in zip(moving, values, strict=True):
            to = chunks[(rank + 1) % n]
            to[i] = to[i] + value if turn < n - 1 else value
        seconds += link.latency + size / n / link.bandwidth
        sent += size / n
    assert all(row == [float(sum(rank * n + i for rank in range(n))) for i in range(n)] for row in chunks)
    assert sent == pytest.approx(model.volume(size, n))
    assert seconds == pytest.approx(model.hops(n, "ring") * link.latency + model.volume(size, n) / link.bandwidth)


def test_buckets_are_those_of_ddp(part: Any) -> None:
    model = part("model")
    assert [model.buckets(size) for size in (4, MIB, MIB + 1, 26 * MIB, 26 * MIB + 1)] == [1, 1, 2, 2, 3]
    signature = importlib.import_module("inspect").signature(DistributedDataParallel.__init__)
    assert signature.parameters["bucket_cap_mb"].default is None  # which is 25
    assert torch.distributed._DEFAULT_FIRST_BUCKET_BYTES == MIB


def made(model: Any, noise: float) -> list[Any]:
    """Measurements of known constants: 0.2 ms a hop, 0.5 GB/s, 10 % contention."""
    dice, rows = random.Random(0), []
    for name, size, fixed, slope in (
        ("a", 100_000, 0.002, 0.003),
        ("b", 18_000_000, 0.01, 0.3),
        ("c", 1_500_000, 0.005, 0.1),
    ):
        for n, batch in ((1, 1.0), (1, 0.5), (2, 0.5), (2, 1.0)):
            messages, compute = model.buckets(size) + model.FLAGS, fixed + slope * batch
            seconds = compute if n == 1 else 1.1 * compute + messages * 2 * 2e-4 + size / 5e8
            rows.append(model.Measured(name, n, batch, size, messages, seconds * dice.uniform(1 - noise, 1 + noise)))
    for size in (4, 1 << 16, 1 << 20, 1 << 24):
        rows.append(model.Measured("", 2, 0.0, size, 1, (2 * 2e-4 + size / 5e8) * dice.uniform(1 - noise, 1 + noise)))
    return rows


def test_the_fit_finds_the_constants_that_measurements_were_made_of(part: Any) -> None:
    model = part("model")
    found = model.fit(made(model, 0.0))
    assert found.link.latency == pytest.approx(2e-4, rel=1e-6)
    assert found.link.bandwidth == pytest.approx(5e8, rel=1e-6)
    assert found.contention == pytest.approx(0.1, rel=1e-6)
    assert found.compute["b"] == pytest.approx((0.01, 0.3), rel=1e-6)
    assert found.residual < 1e-9


def test_the_fit_bears_noise_and_states_it(part: Any) -> None:
    model = part("model")
    found = model.fit(made(model, 0.05))
    assert found.link.latency == pytest.approx(2e-4, rel=0.2)
    assert found.link.bandwidth == pytest.approx(5e8, rel=0.2)
    assert 0.005 < found.residual < 0.05
    assert found.residual == pytest.approx(math.sqrt(sum(miss**2 for miss in found.misses) / len(found.misses)))


def test_no_constant_of_the_fit_is_negative(part: Any) -> None:
    model = part("model")
    faster = [
        model.Measured(row.network, row.n, row.batch, row.size, row.messages, row.seconds / row.n**2)
        for row in made(model, 0.0)
    ]
    found = model.fit(faster)  # two processes with less work than one: no latency explains that
    assert found.contention == 0.0 and found.link.latency >= 0.0 and found.link.bandwidth > 0.0
    assert found.residual > 0.1


def test_the_plan_by_hand(part: Any) -> None:
    model = part("model")
    fast, slow = model.Link(1e11, 1e-6), model.Link(1e10, 1e-5)
    cluster = model.Cluster(flops=1e13, overhead=2e-3, time_step=1e-5, per_node=8, inside=fast, between=slow)
    network = model.Network("x", parameters=2_500_000, flops=2e10, steps=100, batches=50)
    assert network.size == 10_000_000
    alone = 2e-3 + 1e-3 + 2e-3
    assert model.planned(network, 1, cluster) == (pytest.approx(alone), 1.0)
    eight = alone + (2 + 3) * 14 * 1e-6 + 2 * 7 / 8 * 1e7 / 1e11  # 10 MB: two buckets
    assert model.planned(network, 8, cluster) == (pytest.approx(eight), pytest.approx(alone / eight))
    sixteen = alone + 5 * 30 * 1e-5 + 2 * 15 / 16 * 1e7 / 1e10
    assert model.planned(network, 16, cluster)[0] == pytest.approx(sixteen)


def test_tables_say_what_is_measured_and_what_is_planned(part: Any) -> None:
    model, report = part("model"), part("report")
    rows = made(model, 0.0)
    text = report.measured_table(rows, model.fit(rows), "a machine")
    assert "| b | 18.00 | 160.0 (160.0) | 310.0 (310.0) | 214.0 (214.0) | 1.45 | 379.0 (379.0) | 0.82 |" in text
    assert "latency 200 µs a hop, bandwidth 0.50 GB/s, arithmetic 10% slower" in text
    network = model.Network("x", 2_500_000, 2e10, 100, 50, "embedded data")
    planned = report.plan_table([network], [8, 64], model.Cluster(2e13))
    assert "A plan, not a result" in planned and "20 TFLOP/s" in planned and "25 GB/s" in planned
    (row,) = [line for line in planned.splitlines() if line.startswith("| x")]
    assert row.startswith("| x (embedded data) | 2,500,000 | 100 | 20.00 | 50 | 7.0 | ") and row.endswith("% * |")


def test_a_shipped_network_is_built_and_counted(part: Any) -> None:
    networks = part("networks")
    found = networks.describe(ROOT / "configs/sequence_classification/digits.yaml")
    rnn, head = nn.RNN(8, 150), nn.Linear(150, 10)
    assert found.parameters == sum(p.numel() for p in (*rnn.parameters(), *head.parameters()))
    assert (found.steps, found.batches, found.note) == (8, 41, "")
    with FlopCounterMode(display=False) as counter:
        for _ in range(8):
            head.in_features, torch.zeros(32, 8) @ rnn.weight_ih_l0.T, torch.zeros(32, 150) @ rnn.weight_hh_l0.T
        head(torch.zeros(32, 150))
    assert found.flops == pytest.approx(3 * counter.get_total_flops())


def test_a_network_without_its_data_is_built_on_the_embedded_ones(
    part: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIGHTNING_RNN_DATA", str(tmp_path))
    monkeypatch.setenv("LIGHTNING_RNN_CACHE", str(tmp_path))
    found = part("networks").describe(ROOT / "configs/rainfall/kaggle_gru.yaml")
    assert found.note == "embedded data" and found.parameters > 100_000 and found.flops > 1e6


def test_every_shipped_network_is_in_the_plan(part: Any) -> None:
    names = [path.stem for path in part("networks").shipped()]
    assert {"digits", "multi30k_en_fr", "m4_hourly", "embedded_reber", "synthetic_gru"} <= set(names)
    assert not {"cpu", "gpu", "wandb"} & set(names)


def test_what_is_trained_is_shipped(part: Any) -> None:
    networks, ddp = part("networks"), part("")
    assert {networks.CONFIGS / f"{name}.yaml" for name in ddp.TRAINED} <= set(networks.shipped())
    given = type("Given", (), {
        "tflops": 20.0, "overhead": 3.0, "time_step": 30.0, "per_node": 8, "inside": 200.0, "bandwidth": 25.0,
        "latency": 10.0, "pattern": "ring",
    })  # fmt: skip
    made, known = ddp.cluster_of(given), part("model").Cluster()
    assert (made.flops, made.overhead, made.per_node) == pytest.approx((known.flops, known.overhead, known.per_node))
    assert made.between.bandwidth == pytest.approx(known.between.bandwidth)
