"""One step at a time: a network that is fed its own forecasts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lightning_rnn.errors import ConfigError
from lightning_rnn.functional import sequence_mask
from lightning_rnn.layers.table import recurrent
from lightning_rnn.types import Nest

from .head import Point
from .network import Learned, Member, NetworkOptions, StaticContext, Window
from .scaling import Scaled
from .spec import ForecastSpec


class RecursiveNetwork(Member):
    """Recurrent layers with an output projection: each step's value in, the next one's forecast out.

    It learns every step of the window and of the horizon with the true values before it (teacher forcing), and
    forecasts from its own: the point's, or draws of the head's distribution, whose quantiles are then those of sample
    paths (Salinas et al. 2020, DeepAR, section 3.1).

    Raises:
        ConfigError: there are past columns, of which nothing is known when it is fed its own forecasts; or a skip.
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
        self.context = StaticContext(spec, options.static_size, options.static_size)
        width = 2 + spec.known + (0 if self.context.linear is None else options.static_size)
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

    def _steps(self, z: Tensor, valid: Tensor, known: Tensor, context: Tensor) -> Tensor:
        """Inputs ``[B, T, D]``: value, whether it is there, what is known of the next step, static vector."""
        parts = [z.unsqueeze(2), valid.unsqueeze(2).to(z.dtype), known]
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
        ahead = torch.where(t.isnan(), 0, (t - scaled.loc) / scaled.scale)
        z = self._left(torch.cat([scaled.z, ahead], 1), window.lengths, horizon)
        valid = self._left(torch.cat([window.valid, ~t.isnan()], 1).to(z.dtype), window.lengths, horizon) > 0
        known = self._left(window.known, window.lengths, horizon) if self.spec.known else z.new_zeros(*z.shape, 0)
        steps = self._steps(z[:, :-1], valid[:, :-1], known[:, 1:], self.context(window))
        output = self.rnn(steps, lengths=window.lengths + horizon - 1).sequence
        raw = self.output(self.dropout(output))
        values = self._left(torch.cat([self.scaling.transform(window.y), t], 1), window.lengths, horizon)
        values = torch.where(valid, values, torch.nan)[:, 1:]
        place = (window.lengths - 1).clamp(min=0).unsqueeze(1) + torch.arange(horizon, device=z.device)
        own = raw.gather(1, place.unsqueeze(2).expand(-1, -1, raw.shape[2]))
        return Learned(raw, values, scaled, scaled.loc, self.forecasts(own, scaled, target.new_zeros(0))[..., 0])

    def forward(self, inputs: Tensor, lengths: Tensor, levels: Tensor) -> tuple[Tensor, Scaled]:
        window, scaled = self.window(inputs, lengths)
        paths = self.scaling.restore(self.paths(window, scaled), scaled.loc)
        mean = paths.mean(2, keepdim=True)
        if not len(levels):
            return mean, scaled
        quantiles = torch.quantile(paths, levels.to(paths), dim=2).permute(1, 2, 0)
        return torch.cat([mean, quantiles], 2), scaled

    def paths(self, window: Window, scaled: Scaled) -> Tensor:
        """Continuations ``[B, H, S]`` of t(y), always the same draws; one for a point head."""
        count, horizon = 1 if isinstance(self.head, Point) else self.options.samples, self.spec.horizon
        known = window.known if self.spec.known else window.y.new_zeros(len(window.y), self.lookback + horizon, 0)
        context = self.context(window)
        z, valid = (self._left(rows, window.lengths, 0) for rows in (scaled.z, window.valid.to(scaled.z.dtype)))
        history = self._left(known, window.lengths, horizon)[:, 1 : self.lookback + 1]
        output = self.rnn(self._steps(z, valid, history, context), lengths=window.lengths)
        state = _repeated(output.state, count)
        scale, loc = scaled.scale.repeat_interleave(count, 0), scaled.loc.repeat_interleave(count, 0)
        rng = torch.Generator(z.device).manual_seed(0)
        last, steps = output.last.repeat_interleave(count, 0), []
        many = context if self.context.linear is None else context.repeat_interleave(count, 0)
        for step in range(horizon):
            raw = self.output(last).unsqueeze(1)
            t = self._drawn(raw, scale, loc, rng)
            steps.append(t)
            if step + 1 < horizon:
                feature = known[:, self.lookback + step + 1].repeat_interleave(count, 0).unsqueeze(1)
                fed = self._steps((t - loc) / scale, torch.ones_like(t), feature, many)
                output = self.rnn(fed, state)
                last, state = output.last, output.state
        return torch.cat(steps, 1).reshape(-1, count, horizon).transpose(1, 2)

    def _drawn(self, raw: Tensor, scale: Tensor, loc: Tensor, rng: torch.Generator) -> Tensor:
        if isinstance(self.head, Point):
            return self.head.mean(raw, scale, loc)
        return self.head.sample(raw, 1, scale, loc, rng)[..., 0]


def _repeated(state: Nest, count: int) -> Nest:
    return pytree.tree_map(lambda one: one.repeat_interleave(count, 0), state)
