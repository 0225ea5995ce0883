"""One step at a time: a network that is fed its own forecasts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from lightning_rnn.errors import ConfigError
from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers.table import recurrent
from lightning_rnn.types import Nest, RNNOutput

from .head import Point
from .network import Learned, Member, NetworkOptions, StaticContext, Window
from .scaling import Scaled
from .spec import ForecastSpec


class RecursiveNetwork(Member):
    """Recurrent layers with an output projection: each step's value in, the next one's forecast out.

    It learns every step of the window and of the horizon with the true values before it (teacher forcing), and
    forecasts from its own: the point's, or draws of the head's distribution, whose quantiles are then those of sample
    paths (Salinas et al. 2020, DeepAR, section 3.1). Beside the last value it may be given those ``options.lags`` steps
    before the one that is forecast, from the window first, then from its own (there section 3.3, and GluonTS).

    Raises:
        ConfigError: there are past columns, of which nothing is known when it is fed its own forecasts; a skip; or a
            lag that is longer than the lookback.
    """

    def __init__(self, spec: ForecastSpec, options: NetworkOptions, lookback: int) -> None:
        super().__init__(spec, options, lookback)
        if spec.past:
            raise ConfigError(
                f"model.decode=recursive cannot use past columns ({', '.join(spec.past)}): they are not known at the "
                "steps it forecasts; declare them as future, or use another decode"
            )
        if options.dilations or options.residual:
            raise ConfigError("model.dilations and model.residual are not of decode=recursive: leave them out")
        if options.scale == "smoothing":
            raise ConfigError("model.scale=smoothing forecasts the season of all steps at once: take another scale")
        if options.skip:
            raise ConfigError("model.skip is from a window to all its steps at once: set it to false for recursive")
        self.lags = options.lags or []
        if max(self.lags, default=0) > lookback:
            raise ConfigError(
                f"model.lags has {max(self.lags)}, windows have {lookback} steps: raise data.lookback (or lookbacks)"
            )
        self.context = StaticContext(spec, options.static_size, options.static_size)
        width = 2 + 2 * len(self.lags) + spec.known + (0 if self.context.linear is None else options.static_size)
        self.rnn = recurrent(
            options.cell,
            width,
            options.hidden_size,
            options.num_layers,
            initializer=options.initializer,
            activation=options.activation,
        )
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(options.hidden_size, self.head.size)

    def _steps(self, z: Tensor, valid: Tensor, earlier: Tensor, known: Tensor, context: Tensor) -> Tensor:
        """Inputs ``[B, T, D]``: value, whether it is there, the same lagged, what is known of the next step, static."""
        parts = [z.unsqueeze(2), valid.unsqueeze(2).to(z.dtype), earlier, known]
        if self.context.linear is not None:
            parts.append(context.unsqueeze(1).expand(-1, z.shape[1], -1))
        return torch.cat(parts, 2)

    def _left(self, rows: Tensor, lengths: Tensor, more: int) -> Tensor:
        """``[B, L + more, ...]`` whose first steps are padding, with these at the end instead."""
        steps = torch.arange(rows.shape[1], device=rows.device)
        place = steps + (self.lookback - lengths).unsqueeze(1)
        index = place.clamp(max=rows.shape[1] - 1)
        index = index.reshape(*index.shape, *[1] * (rows.ndim - 2)).expand_as(rows)
        inside = sequence_mask(lengths + more, rows.shape[1])
        return torch.where(inside.reshape(*inside.shape, *[1] * (rows.ndim - 2)), rows.gather(1, index), 0)

    def learn(self, inputs: Tensor, lengths: Tensor, target: Tensor) -> Learned:
        window, scaled = self.window(inputs, lengths)
        horizon, t = self.spec.horizon, self.scaling.transform(target)
        ahead = (torch.where(t.isnan(), scaled.loc, t) - scaled.loc) / scaled.scale  # no NaN in revin's gradient
        z = self._left(torch.cat([scaled.z, ahead], 1), window.lengths, horizon)
        valid = self._left(torch.cat([window.valid, ~t.isnan()], 1).to(z.dtype), window.lengths, horizon) > 0
        known = self._left(window.known, window.lengths, horizon) if self.spec.known else z.new_zeros(*z.shape, 0)
        z_in, valid_in = z[:, :-1], valid[:, :-1]
        steps = self._steps(z_in, valid_in, lagged(z_in, valid_in, self.lags), known[:, 1:], self.context(window))
        output = self.rnn(steps, lengths=window.lengths + horizon - 1).sequence
        raw = self.output(self.dropout(output))
        values = self._left(torch.cat([self.scaling.transform(window.y), t], 1), window.lengths, horizon)
        values = torch.where(valid, values, torch.nan)[:, 1:]
        place = (window.lengths - 1).clamp(min=0).unsqueeze(1) + torch.arange(horizon, device=z.device)
        own = raw.gather(1, place.unsqueeze(2).expand(-1, -1, raw.shape[2]))
        return Learned(raw, values, scaled, scaled.loc, self.forecasts(own, scaled, target.new_zeros(0))[..., 0])

    def forward(self, inputs: Tensor, lengths: Tensor, levels: Tensor) -> tuple[Tensor, Scaled]:
        window, scaled = self.window(inputs, lengths)
        paths = self.paths(window, scaled)
        parts = [paths.mean(2, keepdim=True)]  # of logarithms, too: the mean of exp(Student's t) is infinite
        if len(levels):
            parts.append(torch.quantile(paths, levels.to(paths), dim=2).permute(1, 2, 0))
        return self.scaling.restore(torch.cat(parts, 2), scaled.near), scaled

    def paths(self, window: Window, scaled: Scaled) -> Tensor:
        """Continuations ``[B, H, S]`` of t(y), always the same draws; one for a point head."""
        count, horizon = 1 if isinstance(self.head, Point) else self.options.samples, self.spec.horizon
        known = window.known if self.spec.known else window.y.new_zeros(len(window.y), self.lookback + horizon, 0)
        context = self.context(window)
        output = self._encoded(window, scaled, known, context)
        state, last = _repeated(output.state, count), output.last.repeat_interleave(count, 0)
        scale, loc = scaled.scale.repeat_interleave(count, 0), scaled.loc.repeat_interleave(count, 0)
        many = context if self.context.linear is None else context.repeat_interleave(count, 0)
        seen = self._seen(window, scaled).repeat_interleave(count, 0)
        rng, steps = torch.Generator(last.device).manual_seed(0), []
        for step in range(horizon):
            t = self._drawn(self.output(last).unsqueeze(1), scale, loc, rng)
            z = (t - loc) / scale
            seen = torch.cat([seen[:, 1:], torch.stack([z, torch.ones_like(z)], 2)], 1) if self.lags else seen
            steps.append(t)
            if step + 1 < horizon:
                feature = known[:, self.lookback + step + 1].repeat_interleave(count, 0).unsqueeze(1)
                fed = self._steps(z, torch.ones_like(z), self._recalled(seen), feature, many)
                output = self.rnn(fed, state)
                last, state = output.last, output.state
        return torch.cat(steps, 1).reshape(-1, count, horizon).transpose(1, 2)

    def _encoded(self, window: Window, scaled: Scaled, known: Tensor, context: Tensor) -> RNNOutput:
        """The recurrent layers at the end of the window."""
        z, valid = (self._left(rows, window.lengths, 0) for rows in (scaled.z, window.valid.to(scaled.z.dtype)))
        ahead = self._left(known, window.lengths, self.spec.horizon)[:, 1 : self.lookback + 1]
        steps = self._steps(z, valid, lagged(z, valid, self.lags), ahead, context)
        output: RNNOutput = self.rnn(steps, lengths=window.lengths)
        return output

    def _seen(self, window: Window, scaled: Scaled) -> Tensor:
        """As many last steps as the longest lag goes back: value and whether it is there, ``[B, M, 2]``."""
        both = torch.stack([scaled.z, window.valid.to(scaled.z.dtype)], 2)
        return both[:, self.lookback - max(self.lags, default=0) :]

    def _recalled(self, seen: Tensor) -> Tensor:
        """Of the steps so far, those at the lags of the next: as :func:`lagged`, ``[B, 1, 2 K]``."""
        place = seen.shape[1] - torch.tensor(self.lags, dtype=torch.int64, device=seen.device)
        return seen[:, place].transpose(1, 2).flatten(1).unsqueeze(1)

    def _drawn(self, raw: Tensor, scale: Tensor, loc: Tensor, rng: torch.Generator) -> Tensor:
        if isinstance(self.head, Point):
            return self.head.mean(raw, scale, loc)
        return self.head.sample(raw, 1, scale, loc, rng)[..., 0]


def _repeated(state: Nest, count: int) -> Nest:
    return pytree.tree_map(lambda one: one.repeat_interleave(count, 0), state)


def lagged(z: Tensor, valid: Tensor, lags: Sequence[int]) -> Tensor:
    """Values so many steps before the one that follows each step, and whether these are there.

    Args:
        z: values, float ``[B, T]``, 0 where one is missing.
        valid: whether a value is there, bool or float ``[B, T]``.
        lags: ``[K]``, each at least 1; 1 is the step itself.

    Returns:
        ``[B, T, 2 K]``, of z's type: at step t the values at ``t + 1 - lags``, 0 before the first step, then ``valid``
        there.

    Example:
        >>> lagged(torch.tensor([[5.0, 6.0, 7.0]]), torch.ones(1, 3), [2])
        tensor([[[0., 0.],
                 [5., 1.],
                 [6., 1.]]])
    """
    steps = z.shape[1]
    rows = [F.pad(one.to(z.dtype), (lag - 1, 0))[:, :steps] for one in (z, valid) for lag in lags]
    return torch.stack(rows, 2) if rows else z.new_zeros(*z.shape, 0)
