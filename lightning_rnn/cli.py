"""The command line: LightningCLI with a run folder, and one sentence for a user's mistake."""

from __future__ import annotations

import difflib
import logging
import sys
import warnings
from typing import Any, NoReturn

from lightning_rnn import plugins
from lightning_rnn.errors import ConfigError, UserError
from lightning_rnn.training.preemption import Preempted, StopSignal

NOISE = (  # warnings that ask nothing of a user of this program
    "LightningCLI's args parameter is intended",  # ours are sys.argv without --debug
    "The number of training batches .* is smaller than the logging interval",  # epochs are logged, not steps
    ".*does not have many workers",  # batches are one gather: no worker is faster
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own, with torch 2.13
    ".*samples in targets, .* value should be meaningless",  # AUROC without a class: says 0
    "You're using the WeightAveraging callback",  # nothing here is sharded where it averages
    "You are using a custom batch sampler",  # ours returns every row
    "Found .* module\\(s\\) in eval mode",  # frozen ones are meant to be
    "Checkpoint directory .* exists and is not empty",  # test and resume are meant to find it
    "Total length of `list` across ranks is zero",  # the datamodule has said that it has no validation part
    "`ModelCheckpoint\\(monitor=.*could not find the monitored key",  # the same; else KnownMonitors has refused it
    "The `srun` command is available",  # a single process beside SLURM is meant
    "The dirpath has changed from",  # another run's checkpoint is tested: its best score is not this folder's
)
VERBS = ("fit", "validate", "test", "predict", "tasks")
INTERRUPTED = 130  # the exit code of a shell for SIGINT
HELP = """\
usage: lightning-rnn VERB [options]

Recurrent networks on sequences. A task is chosen by its YAML; options follow it, and beat it.

  fit       train, in a run folder: runs/TASK/CONFIG or --trainer.default_root_dir
  validate  measure a checkpoint on the validation part
  test      measure a checkpoint on the test part, beside baselines
  predict   write predictions.csv and predictions.parquet
  tasks     list the tasks that are installed (--check: import them too)
  {commands}

examples:
  lightning-rnn fit  --config configs/sequence_classification/digits.yaml --trainer.max_epochs 5
  lightning-rnn test --config configs/sequence_classification/digits.yaml
  lightning-rnn fit  --config configs/sequence_classification/digits.yaml --ckpt_path last    # goes on

VERB --help lists options, those of a task's model and data are listed by its classes:
  lightning-rnn fit --model.help tasks.sequence_classification.SequenceClassifier
  lightning-rnn fit --data.help tasks.sequence_classification.ClassificationData

--debug shows the traceback of an error, --version the version.

exit codes: 0 done; 2 a wrong option, key or value, or a missing config; 1 something could not be read or written;
75 stopped by SIGTERM or SIGUSR1 and saved, go on with --ckpt_path last; 130 interrupted by Ctrl-C.
"""
CHATTER = ("💡 Tip:", "Tip:", "TPU available", "Loading `train_dataloader` to estimate", "Found current_model_state")


def main(argv: list[str] | None = None) -> int:
    """``lightning-rnn fit|validate|test|predict|tasks``, and the verbs that tasks add. Returns the exit code.

    2: a wrong option, key or value, or a missing config. 1: something could not be read or written. 75: preempted.
    130: interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    try:
        with warnings.catch_warnings():
            _quiet()
            return _run(args)
    except (UserError, OSError) as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, UserError) else 1
    except Preempted as stop:
        if stop.code:
            print(stop.message, flush=True)
        return int(stop.code)
    except KeyboardInterrupt:
        return _interrupted(args)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's way to end a run
            return _interrupted(args)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _quiet() -> None:
    """Our lines as they are; of Lightning's, those that say something."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    for name in ("lightning_rnn", "tasks"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: not record.getMessage().startswith(CHATTER)
    )
    for message in NOISE:
        warnings.filterwarnings("ignore", message=message)


def _interrupted(args: list[str]) -> int:
    advice = ": --ckpt_path last goes on from the last checkpoint" if args[:1] == ["fit"] else ""
    print(f"interrupted{advice}", file=sys.stderr)
    return INTERRUPTED


def _run(args: list[str]) -> int:
    verb, commands = args[0] if args else "", plugins.available(plugins.COMMANDS)
    if verb in ("-h", "--help"):
        print(HELP.format(commands=f"{', '.join(commands)}: see VERB --help"), end="")
        return 0
    if verb == "tasks":
        if unknown := set(args[1:]) - {"--check"}:
            raise ConfigError(f"lightning-rnn tasks knows --check alone, not {' '.join(sorted(unknown))}")
        return list_tasks(check="--check" in args)
    if verb in commands:
        return plugins.command(verb)(args[1:])
    if verb not in VERBS and not verb.startswith("-"):
        _refuse_verb(verb, [*VERBS, *commands])
    stop = StopSignal()
    if verb == "fit":
        stop.install()
    try:
        from lightning_rnn.training.command import RunCommand  # late: Lightning is slow to import

        RunCommand(args, stop)
    finally:
        stop.restore()
    return 0


def _refuse_verb(verb: str, known: list[str]) -> NoReturn:
    near = difflib.get_close_matches(verb, known, n=1)
    asked = f"no verb {verb!r}" if verb else "a verb is missing"
    advice = f". Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{asked}: give one of {', '.join(known)}{advice}")


def list_tasks(check: bool = False) -> int:
    """Print the tasks that installed distributions bring; none is imported unless ``check`` is set."""
    broken = 0
    for name, point in plugins.available().items():
        line = f"{name:28}{point.value:44}{point.dist.name if point.dist else ''}"
        if check:
            try:
                task = plugins.load(name)
                line += f"  ok: {task.module.__name__}, {task.datamodule.__name__}"
            except UserError as error:
                line, broken = f"{line}  broken: {error}", broken + 1
        print(line)
    return int(broken > 0)


def console() -> Any:
    """The console script."""
    sys.exit(main())
