"""What a decoder may not write: log-probabilities of forbidden words become minus infinity."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_rnn.seq2seq.request import Plan, Request
from lightning_rnn.seq2seq.step import NEVER


def repeated_ngrams(history: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The words that would complete ``n`` words in a row that are there already.

    Args:
        history: what was written so far, int64 ``[N, t]``.
        n: how many words; 1: every word that is there.

    Returns:
        Rows and words, int64 both, of the same length: word ``words[i]`` is out in row ``rows[i]``.

    Example:
        >>> repeated_ngrams(torch.tensor([[7, 8, 9, 7, 8]]), 3)
        (tensor([0]), tensor([9]))
    """
    if history.shape[1] < n:
        none = history.new_empty(0)
        return none, none
    windows = history.unfold(1, n, 1)
    same = (windows[..., :-1] == history[:, None, history.shape[1] - n + 1 :]).all(-1)
    rows, places = same.nonzero(as_tuple=True)
    return rows, windows[rows, places, -1]


def penalise_repeats(log_probs: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Log-probabilities ``[N, V]`` of the words in ``history [N, t]`` multiplied by ``penalty``, others as they are.

    Example:
        >>> penalise_repeats(torch.tensor([[-1.0, -2.0]]), torch.tensor([[1, 1]]), 1.5).tolist()
        [[-1.0, -3.0]]
    """
    return log_probs.scatter(1, history, log_probs.gather(1, history) * penalty)


def keeps_history(request: Request) -> bool:
    """Whether the rules of a request look at what was written before."""
    return request.no_repeat_ngram > 0 or request.repetition_penalty != 1


def constrain(log_probs: Tensor, time: int, history: Tensor | None, request: Request, plan: Plan) -> Tensor:
    """The log-probabilities with which candidates of step ``time`` are compared.

    Args:
        log_probs: of the model, ``[N, V]``; left as it is.
        time: words written so far.
        history: those words, int64 ``[N, time]``; None where no rule needs them.
        request: the rules.
        plan: their numbers for each of the ``B`` sentences; ``N`` is a multiple of ``B``.

    Returns:
        ``[N, V]``, minus infinity where a word is forbidden.

    Example:
        >>> request = Request(min_length=1, eos=0)
        >>> constrain(torch.zeros(1, 2), 0, None, request, request.plan(1, torch.device("cpu"))).tolist()
        [[-inf, 0.0]]
    """
    allowed = log_probs
    if history is not None and history.shape[1]:
        if request.repetition_penalty != 1:
            allowed = penalise_repeats(allowed, history, request.repetition_penalty)
        if request.no_repeat_ngram:
            banned = repeated_ngrams(history, request.no_repeat_ngram)
            allowed = allowed.index_put(banned, allowed.new_tensor(NEVER))
    times = log_probs.shape[0] // max(1, plan.min_length.shape[0])
    early = plan.min_length > time
    if bool(early.any()):
        rows = early.repeat_interleave(times).nonzero().flatten()
        end = torch.full_like(rows, request.eos)
        allowed = allowed.index_put((rows, end), allowed.new_tensor(NEVER))
    if time < plan.prefix.shape[1]:
        allowed = _force(log_probs, allowed, time, plan, times)
    return allowed


def _force(log_probs: Tensor, allowed: Tensor, time: int, plan: Plan, times: int) -> Tensor:
    """The words of a prefix alone, with the log-probabilities that they have in the model."""
    forced = (plan.prefix_lengths > time).repeat_interleave(times)[:, None]
    words = plan.prefix[:, time].repeat_interleave(times)[:, None]
    words = words.where(forced, 0)  # padding may hold anything
    if bool((words >= log_probs.shape[1]).any()):
        raise ValueError(f"Request: prefix holds word {int(words.max())} of a vocabulary of {log_probs.shape[1]}")
    only = torch.full_like(allowed, NEVER).scatter(1, words, log_probs.gather(1, words))
    return only.where(forced, allowed)
