"""``lightning-rnn sweep``: one run for each cell of a grid, by its number, as arrays of jobs count them.

Lightning is not imported here: the run that follows watches for signals before it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from lightning_rnn.cli import main as run
from lightning_rnn.errors import ConfigError, require
from lightning_rnn.training.config_files import load_yaml

ARGS, PROGRAM, POINT = "${args}", "lightning-rnn", "sweep.json"
ABOUT = """\
Lists the runs of a sweep, or trains the one of an index. The file is a grid in W&B's format: `command`, with ${args}
where the options go, and under `parameters` the values of each option; the last parameter varies fastest. Options
that are not named here go to the run.

example:
  lightning-rnn sweep configs/cluster/sweep.yaml
  lightning-rnn sweep configs/cluster/sweep.yaml --index 2
"""


def grid(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """The options of each run, in order.

    Args:
        sweep: the contents of a sweep file.

    Raises:
        ConfigError: it is no grid of values.

    Example:
        >>> grid({"parameters": {"a": {"values": [1, 2]}, "b": {"value": "x"}}})
        [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'x'}]
    """
    method, parameters = sweep.get("method", "grid"), sweep.get("parameters")
    require(method == "grid", f"method is {method}: runs that are counted need method: grid")
    if not isinstance(parameters, dict) or not parameters:
        raise ConfigError(
            "parameters is empty: give options and their values, such as model.hidden_size: {values: [8]}"
        )
    columns = [[(name, value) for value in _values(name, spec)] for name, spec in parameters.items()]
    return [dict(row) for row in itertools.product(*columns)]


def _values(name: str, spec: object) -> list[Any]:
    if isinstance(spec, dict) and list(spec) == ["value"]:
        return [spec["value"]]
    if isinstance(spec, dict) and list(spec) == ["values"] and isinstance(spec["values"], list) and spec["values"]:
        return list(spec["values"])
    raise ConfigError(f"parameters.{name} is {json.dumps(spec)}: write values: [...] or value: ...")


def arguments(sweep: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """The arguments of ``lightning-rnn`` for a run.

    Args:
        sweep: the contents of a sweep file; its ``command`` is W&B's, a list.
        point: the run's options.

    Raises:
        ConfigError: the command is not one of this program, or does not say where the options go.

    Example:
        >>> command = ["${env}", "lightning-rnn", "fit", "--config", "a.yaml", "${args}"]
        >>> arguments({"command": command}, {"model.dropout": 0.1, "model.cell": "gru"})
        ['fit', '--config', 'a.yaml', '--model.dropout=0.1', '--model.cell=gru']
    """
    command = sweep.get("command")
    if not isinstance(command, list) or PROGRAM not in command or ARGS not in command:
        raise ConfigError(f"command is {json.dumps(command)}: write [{PROGRAM}, fit, --config, CONFIG, '{ARGS}']")
    after = command[command.index(PROGRAM) + 1 :]
    options = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in point.items()]
    return [word for one in after for word in (options if one == ARGS else [str(one)])]


def read_sweep(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A sweep file's contents, and the options of each of its runs.

    Raises:
        ConfigError: it is missing, or no grid of values; names the file.
    """
    require(path.is_file(), f"no sweep {path}: give the path of a YAML file with command and parameters")
    try:
        sweep = load_yaml(path.read_text(), str(path))
        points = grid(sweep)
        arguments(sweep, points[0])
    except yaml.YAMLError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return sweep, points


def claim(folder: Path, point: dict[str, Any]) -> None:
    """Write a run's options into its folder.

    Raises:
        ConfigError: it was begun with others, as the sweep file was another one then.
    """
    note, text = folder / POINT, json.dumps(point)
    if note.is_file() and note.read_text() != text:
        raise ConfigError(
            f"{folder} was begun with {note.read_text()}, and is {text} in the sweep file now: choose another --folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = note.with_name(f".{POINT}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, note)


def main(argv: list[str]) -> int:
    """``lightning-rnn sweep``. Returns the exit code, of the run where there is one.

    Raises:
        ConfigError: a wrong sweep file, or an index that it does not have.
    """
    parser = argparse.ArgumentParser(
        "lightning-rnn sweep",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, help="the sweep")
    parser.add_argument("--index", type=int, help="of the run to train, from 0; without it the runs are listed")
    parser.add_argument("--folder", type=Path, help="of the runs' folders, by index; default runs/sweeps/<file>")
    asked, options = parser.parse_known_args(argv)
    sweep, points = read_sweep(asked.file)
    if asked.index is None:
        for index, point in enumerate(points):
            print(f"{index:<4}{shlex.join([PROGRAM, *arguments(sweep, point), *options])}")
        return 0
    last = len(points) - 1
    require(0 <= asked.index <= last, f"{asked.file} has the runs 0 to {last}, no --index {asked.index}")
    where = "--trainer.default_root_dir"
    require(not any(one.startswith(where) for one in options), f"{where} would be one for all runs: give --folder")
    folder = (asked.folder or Path("runs/sweeps") / asked.file.stem) / str(asked.index)
    claim(folder, points[asked.index])
    return run([*arguments(sweep, points[asked.index]), *options, where, str(folder)])
