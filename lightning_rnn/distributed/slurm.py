"""A job of SLURM: who is in charge of its signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment


def slurm_environment(plugins: Sequence[Any]) -> list[SLURMEnvironment]:
    """Lightning's environment for a job step of SLURM, with its own requeueing switched off.

    That one saves inside the signal's handler, where another process may wait in a collective, and resumes with other
    batches. Here the signal is only noted, the run leaves with the exit code 75, and the batch script requeues it
    (``configs/cluster/slurm.sbatch``).

    Args:
        plugins: the trainer's configured ones; an environment among them is the user's choice, and is left alone.

    Returns:
        The plugin to add: none outside of a job step, nor for the processes of a ``torchrun`` in a job.

    Raises:
        RuntimeError: the job has several tasks, and ``--ntasks-per-node`` was not given (Lightning's own).

    Example:
        >>> slurm_environment([])  # outside of a job
        []
    """
    chosen = any(isinstance(one, ClusterEnvironment) for one in plugins)
    if chosen or TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]
