"""Two nodes that share no folder: what they train, test, predict and go on with is what one process does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import polars
import pytest
from processes import free_port

from lightning_rnn.testing.chaos import LOG, OUTPUT, attempt

CONFIG = Path(__file__).parents[1] / "configs/rainfall/synthetic_gru.yaml"
SMALL = [
    *("--data.source", "tasks.rainfall.sources.SyntheticRain", "--data.source.train_hours", "120"),
    *("--data.source.test_hours", "45", "--model.hidden_sizes", "[6]", "--data.bucketing", "false"),
]
COMMON = [
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.precision", "64-true"),
    *("--throughput.enabled", "false"),
]
FIT = ["--trainer.callbacks", "[lightning_rnn.testing.chaos.BatchLog]", "--ckpt_path", "last"]


class Nodes:
    """Two machines, as far as the command line can tell: run folders, caches, working folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.roots = [folder / f"node{number}" / "run" for number in (0, 1)]

    def run(self, verb: str, *options: str, of_each: Sequence[Sequence[str]] = ((), ())) -> tuple[list[int], list[str]]:
        """The exit codes and what was printed."""
        port, codes = free_port(), []
        for root in self.roots:
            (root / OUTPUT).unlink(missing_ok=True)
        second = os.fork()
        if not second:
            os._exit(self._one(1, port, verb, [*options, *of_each[1]]) % 256)
        codes.append(self._one(0, port, verb, [*options, *of_each[0]]))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))
        return codes, [(root / OUTPUT).read_text() for root in self.roots]

    def _one(self, number: int, port: int, verb: str, options: Sequence[str]) -> int:
        root = self.roots[number]
        argv = [verb, "--config", str(CONFIG), *SMALL, *COMMON, "--trainer.default_root_dir", str(root)]
        argv += ["--data.batch_size", "15", "--trainer.num_nodes", "2", "--trainer.strategy", json.dumps(DDP)]
        return attempt([*argv, *options], root, sabotage=self._there(number, port))

    def _there(self, number: int, port: int) -> Callable[[], None]:
        def go() -> None:
            os.chdir(self.roots[number].parent)
            os.environ |= {
                "LIGHTNING_RNN_CACHE": str(self.roots[number].parent / "cache"),
                "NODE_RANK": str(number),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }

        return go


DDP = {"class_path": "pytorch_lightning.strategies.DDPStrategy", "init_args": {"timeout": "0:01:00"}}


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    return Nodes(tmp_path)


def alone(root: Path, verb: str, *options: str) -> None:
    argv = [verb, "--config", str(CONFIG), *SMALL, *COMMON, "--data.batch_size", "30", *options]
    assert attempt([*argv, "--trainer.default_root_dir", str(root)], root) == 0, (root / OUTPUT).read_text()


def assert_same_table(file: Path, other_file: Path) -> None:
    left, right = polars.read_csv(file), polars.read_csv(other_file)
    assert left.shape == right.shape and left.columns == right.columns
    for name in left.columns:
        one, other = (table[name].cast(float).fill_null(-1.0).to_list() for table in (left, right))
        assert other == pytest.approx(one, rel=1e-5), name


@pytest.mark.slow
def test_nodes_that_share_no_folder_train_go_on_test_and_predict_as_one_process_does(
    nodes: Nodes, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    alone(one, "fit", "--trainer.max_epochs", "2", *FIT)
    fault = {"class_path": "faults.Faulty", "init_args": {"hook": "on_validation_batch_start", "call": 2}}
    codes, texts = nodes.run("fit", "--trainer.max_epochs", "2", *FIT, f"--trainer.callbacks+={json.dumps(fault)}")
    assert codes == [1, 1] and "process 1" in texts[0] and "the disk with the numbers is gone" in texts[0], texts
    batches = [(root / LOG).read_text() for root in nodes.roots]
    codes, texts = nodes.run("fit", "--trainer.max_epochs", "2", *FIT)
    assert codes == [0, 0], texts
    for root, before in zip(nodes.roots, batches, strict=True):  # neither began anew
        lines = (root / LOG).read_text().removeprefix(before).splitlines()
        assert {json.loads(line)[0] for line in lines} == {1}
    assert_same_table(one / "metrics.csv", nodes.roots[0] / "metrics.csv")
    for verb in ("test", "predict"):
        alone(one, verb)
        codes, texts = nodes.run(verb)
        assert codes == [0, 0], texts
    assert_same_table(one / "predictions.csv", nodes.roots[0] / "predictions.csv")
    assert_same_table(one / "metrics.csv", nodes.roots[0] / "metrics.csv")
    left = {path.name for path in nodes.roots[1].iterdir()}
    assert left <= {LOG, OUTPUT, ".lock"}, "the second node keeps nothing of the run"


def test_a_checkpoint_on_another_than_the_first_node_is_named_by_all(nodes: Nodes) -> None:
    folder = nodes.roots[1] / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").touch()
    codes, texts = nodes.run("fit", *FIT)
    assert codes == [1, 1]
    for text in texts:
        assert "process 1 has the checkpoint" in text and "one run folder" in text and "Traceback" not in text


def test_nodes_with_other_data_or_options_are_told_at_once(nodes: Nodes) -> None:
    codes, texts = nodes.run("fit", *FIT, of_each=(["--data.source.seed", "1"], ["--data.source.seed", "2"]))
    assert codes == [1, 1]
    for text in texts:
        assert "give all nodes the same files and the same config" in text and "Traceback" not in text


def test_a_node_that_lacks_a_file_ends_all_with_its_sentence(nodes: Nodes) -> None:
    missing = ["--data.source", "tasks.rainfall.sources.KaggleRain", "--data.source.train", "nowhere.csv"]
    codes, texts = nodes.run("fit", *FIT, of_each=([], missing))
    assert codes == [1, 1]
    assert "process 1" in texts[0] and "nowhere" in texts[0] and "Traceback" not in texts[0]
    assert "nowhere" in texts[1] and "Traceback" not in texts[1]


@pytest.mark.slow
def test_a_node_whose_options_are_wrong_is_not_waited_for_for_ever(nodes: Nodes) -> None:
    codes, texts = nodes.run("fit", *FIT, of_each=([], ["--model.hidden", "3"]))
    assert codes == [1, 2]
    assert "did not meet within the strategy's timeout" in texts[0] and "Traceback" not in texts[0]


@pytest.mark.slow
def test_a_checkpoint_in_parts_without_a_shared_disk_is_refused_by_all(nodes: Nodes) -> None:
    sharded = {"class_path": "lightning_rnn.distributed.sharding.FullySharded"}
    sharded |= {"init_args": {"save_distributed_checkpoint": True}}  # type: ignore[dict-item]
    codes, texts = nodes.run("fit", *FIT, "--trainer.precision", "32-true", "--trainer.strategy", json.dumps(sharded))
    assert codes == [2, 2]
    for text in texts:
        assert "a folder that all nodes share" in text and "Traceback" not in text
