"""Where Lightning's loops stand, as a checkpoint says it, put so that a resumed run neither repeats nor skips anything.

Lightning 2.6 resumes exactly from none of the three moments that matter here, but from states that differ from them in
a number or two. What is changed, and why, stands at each function; ``loops`` is the ``loops`` entry of a checkpoint.
"""

from __future__ import annotations

from typing import Any

Loops = dict[str, Any]
BATCHES, VALIDATION, EPOCHS = "epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress", "epoch_progress"
SCHEDULER, OPTIMIZER = "epoch_loop.scheduler_progress", "epoch_loop.automatic_optimization.optim_progress"


def at_batch_start(loops: Loops, steps_next: bool) -> None:
    """Saved when a batch begins: what came before is complete.

    Resuming, Lightning takes the batch for one that had stepped and counts a step for the loggers.

    Args:
        loops: changed in place.
        steps_next: whether the optimizer steps with the batch that begins.
    """
    loops["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] -= int(steps_next)


def at_validation(loops: Loops) -> None:
    """Saved while validating: the validation is run again from its beginning.

    Lightning does so where a validation stopped in its first batch; otherwise it leaves the validation out.
    """
    progress = loops["fit_loop"][VALIDATION]
    for count in (progress["total"], progress["current"]):
        count.update(ready=1, started=1, processed=0, completed=0)
    progress["is_last_batch"] = False


def at_end(loops: Loops, steps_next: bool) -> None:
    """Saved when training has ended: as if the first batch of the next epoch began, should there be more epochs later.

    Args:
        loops: changed in place.
        steps_next: whether the optimizer steps with every batch.
    """
    fit = loops["fit_loop"]
    epochs, batches = fit[EPOCHS], fit[BATCHES]
    for count in (epochs["total"], epochs["current"]):
        count["processed"] = count["completed"]
        count["ready"] = count["started"] = count["completed"] + 1
    done = batches["total"]["completed"]
    batches["total"].update(ready=done + 1, started=done, processed=done)
    batches["current"].update(ready=1, started=0, processed=0, completed=0)
    batches["is_last_batch"] = False
    fit[VALIDATION]["total"].update(ready=0, started=0, processed=0, completed=0)
    optimizer = fit[OPTIMIZER]["optimizer"]
    for counts in (fit[SCHEDULER], optimizer["step"], optimizer["zero_grad"]):
        counts["current"] = dict.fromkeys(counts["current"], 0)
    at_batch_start(loops, steps_next)
