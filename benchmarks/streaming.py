"""One step at a time, and int8 layers: interleaved runs on one thread, medians.

    python benchmarks/streaming.py [--part step int8] [--size 128] [--rounds 300]

``step``: microseconds of ``layer.step(x_t, state)`` in inference mode beside the arithmetic, which is the same step as
bare products and pointwise operations into buffers allocated before, beside ``torch.nn``'s cell and beside the layer's
forward on a sequence of one step. ``int8``: milliseconds of a sequence in float32 and after ``quantize_dynamic``, and
the largest difference of the outputs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_rnn import GRU, LSTM, SimpleRNN
from lightning_rnn.layers.quantized import quantize_dynamic

PAIRS: tuple[tuple[Any, Any], ...] = ((LSTM, nn.LSTMCell), (GRU, nn.GRUCell), (SimpleRNN, nn.RNNCell))


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int, repeats: int) -> dict[str, float]:
    """Median microseconds of one call each, the calls taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            if round_:  # the first warms up
                times[name].append((time.perf_counter() - start) / repeats * 1e6)
    return {name: statistics.median(one) for name, one in times.items()}


def arithmetic(layer: Any, x: Tensor, h: Tensor, c: Tensor) -> Callable[[], Tensor]:
    """One step into buffers: two products, then the gates."""
    size = h.shape[1]
    w, u, b, d = (getattr(layer, f"{name}_l0").t() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    gates, other = torch.empty(x.shape[0], w.shape[1]), torch.empty(x.shape[0], w.shape[1])
    new, memory, parts = torch.empty_like(h), torch.empty_like(h), gates.split(size, dim=1)

    def lstm() -> Tensor:
        i, f, g, o = parts
        torch.addmm(both, x, w, out=gates)
        gates.addmm_(h, u)
        torch.sigmoid(gates[:, : 2 * size], out=gates[:, : 2 * size])
        torch.tanh(g, out=g)
        torch.sigmoid(o, out=o)
        torch.mul(f, c, out=memory)
        memory.addcmul_(i, g)
        torch.tanh(memory, out=new)
        return new.mul_(o)

    def gru() -> Tensor:
        r, z, n = parts
        torch.addmm(b, x, w, out=gates)
        torch.addmm(d, h, u, out=other)
        gates[:, : 2 * size].add_(other[:, : 2 * size]).sigmoid_()
        n.addcmul_(r, other[:, 2 * size :]).tanh_()
        return torch.lerp(n, h, z, out=new)

    def simple() -> Tensor:
        torch.addmm(both, x, w, out=gates)
        return gates.addmm_(h, u).tanh_()

    both = b + d
    return {"lstm": lstm, "gru": gru, "simple_rnn": simple}[layer.kind]


def steps(size: int, rounds: int) -> None:
    print(f"one step, B = 1, D = {size // 2}, H = {size}, us; over: what step takes beyond the arithmetic\n")
    print(
        "| layer | arithmetic | step | over | step, 2 layers | torch.nn's cell | forward, T = 1 | step, gradients on |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for ours, theirs in PAIRS:
        layer, cell, two = ours(size // 2, size).eval(), theirs(size // 2, size), ours(size // 2, size, 2).eval()
        whole = torch.randn(1, 1, size // 2)
        x = whole[:, 0]
        with torch.no_grad():
            first, second = layer.step(x)[1], two.step(x)[1]
        h, c = first if ours is LSTM else (first, first)
        bare = tuple(first) if ours is LSTM else first
        with torch.inference_mode():
            calls = {
                "arithmetic": arithmetic(layer, x, h, c),
                "step": lambda layer=layer, x=x, state=first: layer.step(x, state),
                "two": lambda layer=two, x=x, state=second: layer.step(x, state),
                "cell": lambda cell=cell, x=x, state=bare: cell(x, state),
                "forward": lambda layer=layer, x=whole, state=first: layer(x, state),
            }
            close(calls["arithmetic"](), layer.step(x, first)[0])
            found = interleaved(calls, rounds, 20)
        found |= interleaved({"grad": lambda layer=layer, x=x, state=first: layer.step(x, state)}, rounds, 20)
        columns = [found["arithmetic"], found["step"], found["step"] - found["arithmetic"]]
        columns += [found[name] for name in ("two", "cell", "forward", "grad")]
        print(f"| {ours.__name__} | " + " | ".join(f"{one:.1f}" for one in columns) + " |", flush=True)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@torch.inference_mode()
def int8(rounds: int) -> None:
    print("\nT = 50, D = H, ms; auto: the engine that auto takes\n")
    print("| layer | H | B | float32, auto | float32, scan | int8 | int8 / auto | engine | largest difference |")
    print("|---|---|---|---|---|---|---|---|---|")
    for cls in (LSTM, GRU, SimpleRNN):
        for size in (128, 256, 512):
            for batch in (1, 32):
                layer, loop = cls(size, size).eval(), cls(size, size, engine="scan").eval()
                loop.load_state_dict(layer.state_dict())
                quantized, x = quantize_dynamic(layer), torch.randn(batch, 50, size)
                error = (quantized(x).sequence - layer(x).sequence).abs().max().item()
                calls = {"auto": layer, "scan": loop, "int8": quantized}
                found = interleaved({name: lambda one=one, x=x: one(x) for name, one in calls.items()}, rounds, 1)
                times = " | ".join(f"{one / 1e3:.2f}" for one in found.values())
                ratio, engine = found["int8"] / found["auto"], layer.explain(x).engine
                print(
                    f"| {cls.__name__} | {size} | {batch} | {times} | {ratio:.2f} | {engine} | {error:.1e} |",
                    flush=True,
                )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=("step", "int8"), default=["step", "int8"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=300, help="short, so that other load meets few of them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if "step" in options.part:
        steps(options.size, options.rounds)
    if "int8" in options.part:
        int8(max(3, options.rounds // 12))


if __name__ == "__main__":
    main()
