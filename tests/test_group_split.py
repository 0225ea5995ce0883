"""Cutting a set by groups: none is on both sides, and the classes keep their mix as far as groups allow."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_rnn.data.splitting import group_split
from lightning_rnn.errors import ConfigError, DataError


def drawn(rows: int, groups: int, seed: int) -> tuple[list[str], list[str]]:
    random = np.random.RandomState(seed)
    return [f"g{i}" for i in random.randint(groups, size=rows)], [f"c{i}" for i in random.randint(3, size=rows)]


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides_and_no_row_is_lost(seed: int) -> None:
    groups, labels = drawn(200, 12, seed)
    rest, part = group_split(groups, labels, 0.25, seed)
    assert sorted([*rest.tolist(), *part.tolist()]) == list(range(200))
    assert not {groups[i] for i in rest.tolist()} & {groups[i] for i in part.tolist()}
    assert 0.1 < len(part) / 200 < 0.4


def test_classes_keep_their_mix() -> None:
    groups, labels = drawn(2000, 100, 0)
    _, part = group_split(groups, labels, 0.2, 0)
    for name in ("c0", "c1", "c2"):
        share = sum(labels[i] == name for i in part.tolist()) / labels.count(name)
        assert 0.14 < share < 0.26


def test_the_same_seed_gives_the_same_cut_and_another_one_another() -> None:
    groups, labels = drawn(100, 10, 0)
    cuts = [group_split(groups, labels, 0.3, seed)[1].tolist() for seed in (1, 1, 2)]
    assert cuts[0] == cuts[1] != cuts[2]


def test_a_part_is_never_empty_and_never_all() -> None:
    for fraction in (0.001, 0.999):
        rest, part = group_split(["a", "a", "b"], ["x", "y", "x"], fraction)
        assert len(rest) and len(part)
    rest, part = group_split(["a", "b"], ["x", "y"], 0)
    assert (len(rest), len(part)) == (2, 0)


def test_what_cannot_be_cut_is_named() -> None:
    with pytest.raises(DataError, match="all rows are of one group, ann"):
        group_split(["ann", "ann"], ["x", "y"], 0.5)
    with pytest.raises(ConfigError, match="below 1"):
        group_split(["a", "b"], ["x", "y"], 1.0)
