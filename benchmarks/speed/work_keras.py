"""Keras 3 on one of its backends, as work for a worker process of the peers' Python.

A training step is one function: ``sum(y * v)`` and its gradients by the weights; compiled on JAX (``jit``) and
TensorFlow (``tf.function``, with XLA or without), run as it is on torch, as Keras does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from speed.arrays import inputs, valid
from speed.cases import Case
from speed.worker import Work

BACKENDS = {"keras torch": "torch", "keras jax": "jax", "keras tensorflow": "tensorflow", "keras xla": "tensorflow"}
Step = Callable[[], list[Any]]  # the gradients, when they are there


def builder(name: str) -> Callable[[Case], Work]:
    """How the worker of that name makes a case ready."""
    backend, threads = BACKENDS[name], int(os.environ["OMP_NUM_THREADS"])
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    elif backend == "torch":
        import torch

        torch.set_num_threads(threads)
    import keras

    if keras.backend.backend() != backend:
        raise RuntimeError(f"Keras runs on {keras.backend.backend()}, not on {backend}")
    make = {"torch": torch_step, "jax": jax_step, "tensorflow": xla_step if name == "keras xla" else tensorflow_step}
    return lambda case: KerasWork(case, name, make[backend])


class KerasWork:
    """A Keras layer of a case."""

    def __init__(self, case: Case, name: str, make: Callable[..., Step]) -> None:
        import keras

        from speed.keras_cells import layer_of

        if case.mode != "training" or case.dtype != "float32":
            raise ValueError("Keras is timed in float32 training alone")
        self.case, self.engine = case, name
        keras.utils.set_random_seed(0)
        self.model = layer_of(case)
        mask = valid(case) if case.option == "mask with holes" else None
        self.x, v, self.mask = (None if a is None else keras.ops.convert_to_tensor(a) for a in (*inputs(case), mask))
        self.model(self.x, mask=self.mask)
        self._step = make(self.model, self.x, v, self.mask)

    def step(self) -> None:
        """The timed part."""
        self._step()

    def save(self, path: str) -> None:
        """Outputs and gradients with the weights of ours, which the parent has put beside."""
        import keras

        with np.load(Path(path).with_name("weights.npz")) as given:
            self.model.set_weights([given[name] for name in given.files])
        y = keras.ops.convert_to_numpy(self.model(self.x, mask=self.mask))
        if self.mask is not None:
            y = y * valid(self.case)[:, :, None]
        kernel = keras.ops.convert_to_numpy(self._step()[0])
        np.savez(path, output=y, kernel=kernel)


def torch_step(model: Any, x: Any, v: Any, mask: Any) -> Step:
    """Eager, as Keras on torch runs."""
    weights = [variable.value for variable in model.trainable_variables]

    def step() -> list[Any]:
        for weight in weights:
            weight.grad = None
        (model(x, mask=mask, training=True) * v).sum().backward()
        return [weight.grad for weight in weights]

    return step


def jax_step(model: Any, x: Any, v: Any, mask: Any) -> Step:
    """One jitted function; the state of the noise goes in and comes out."""
    import jax

    def loss(trained: Any, rest: Any, x: Any, v: Any, mask: Any) -> Any:
        y, rest = model.stateless_call(trained, rest, x, mask=mask, training=True)
        return (y * v).sum(), rest

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
    held = [[variable.value for variable in model.non_trainable_variables]]

    def step() -> list[Any]:
        trained = [variable.value for variable in model.trainable_variables]
        (_, held[0]), grads = jax.block_until_ready(compiled(trained, held[0], x, v, mask))
        return list(grads)

    return step


def tensorflow_step(model: Any, x: Any, v: Any, mask: Any, xla: bool = False) -> Step:
    """One ``tf.function``."""
    import tensorflow as tf

    def run(x: Any, v: Any, mask: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, mask=mask, training=True) * v)
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    compiled = tf.function(run, jit_compile=xla)

    def step() -> list[Any]:
        loss, grads = compiled(x, v, mask)
        loss.numpy()
        return list(grads)

    return step


def xla_step(model: Any, x: Any, v: Any, mask: Any) -> Step:
    """One ``tf.function`` compiled by XLA."""
    return tensorflow_step(model, x, v, mask, xla=True)
