"""The vectors: of words as they are read, and of what says the centre word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .functional import Architecture, Block, Loss, learn, pair_losses, read
from .huffman import huffman_tree
from .pairs import Pairs


@dataclass(frozen=True)
class NetworkOptions:
    """What a network is built from; see :class:`.module.WordVectors`."""

    size: int = 100
    architecture: Architecture = "skip_gram"
    loss: Loss = "negative_sampling"
    cbow_mean: bool = True
    cbow_exact: bool = False


class WordVectorNetwork(nn.Module):
    r"""Word vectors and output vectors.

    Word vectors begin uniform in :math:`\pm 1 / D`, output vectors at zero, as gensim's do; word2vec's program begins
    in half of that, from where CBOW is slow to leave.

    Args:
        counts: of each word in the training text, which the tree of hierarchical softmax is made of.
        options: see there.

    Attributes:
        inputs: ``[V, D]``, the word vectors.
        outputs: ``[V, D]`` of the words as centres, or ``[V - 1, D]`` of the nodes of the tree.

    Example:
        >>> network = WordVectorNetwork([3, 2, 1], NetworkOptions(size=4, loss="hierarchical"))
        >>> network.inputs.shape, network.outputs.shape
        (torch.Size([3, 4]), torch.Size([2, 4]))
    """

    nodes: Tensor
    codes: Tensor
    depths: Tensor

    def __init__(self, counts: Sequence[int], options: NetworkOptions) -> None:
        super().__init__()
        words, self.options = len(counts), options
        tree = options.loss == "hierarchical"
        self.inputs = nn.Parameter((2 * torch.rand(words, options.size) - 1) / options.size)
        self.outputs = nn.Parameter(torch.zeros(words - tree, options.size))
        if tree:
            for name, value in zip(("nodes", "codes", "depths"), huffman_tree(counts), strict=True):
                self.register_buffer(name, value, persistent=False)

    def blocks(self, pairs: Pairs, size: int) -> Iterator[tuple[Block, slice]]:
        """The pairs in blocks of about ``size``, each of centres of like reach, with their places.

        A pair is a centre word with one word near it, or in CBOW with all of them.
        """
        start, window = 0, pairs.contexts.shape[1] // 2
        for reach, count in enumerate(torch.bincount(pairs.reach, minlength=window + 1).tolist()):
            near = 1 if self.options.architecture == "cbow" else max(2 * reach, 1)
            step, end = max(1, size // near), start + count
            for begin in range(start, end, step):
                places = slice(begin, min(begin + step, end))
                yield self._block(pairs, places, slice(window - reach, window + reach)), places
            start = end

    def _block(self, pairs: Pairs, places: slice, columns: slice) -> Block:
        center, contexts = pairs.center[places], pairs.contexts[places, columns]
        if self.options.loss == "hierarchical":
            deep = int(self.depths[center].max())
            valid = torch.arange(deep, device=center.device) < self.depths[center, None]
            return Block(contexts, self.nodes[center, :deep], 1 - self.codes[center, :deep], valid)
        outputs = torch.cat([center[:, None], pairs.noise[places]], 1)
        valid = outputs != center[:, None]  # noise that is the centre itself does not count
        valid[:, 0] = True
        labels = torch.zeros(outputs.shape, dtype=self.inputs.dtype, device=center.device)
        labels[:, 0] = 1
        return Block(contexts, outputs, labels, valid)

    @torch.no_grad()
    def score(self, block: Block, rate: float = 0.0) -> tuple[Tensor, Tensor]:
        """The losses of a block's pairs, and which there are, ``[G, C]`` (CBOW: ``[G, 1]``).

        With a ``rate`` above 0 the vectors then take a step down the sum of these losses. All of it is in the vectors'
        own type, under autocast too: the products are small, and the steps too fine for 16 bits.
        """
        with torch.autocast(self.inputs.device.type, enabled=False):
            o = self.options
            done = read(self.inputs, self.outputs, block, o.architecture, o.cbow_mean, o.cbow_exact)
            losses, gradient = pair_losses(done.scores, block, o.loss)
            if rate:
                learn(self.inputs, self.outputs, block, done, gradient, rate)
        return losses.masked_fill(~done.there, 0), done.there

    def forward(self, pairs: Pairs, rows: int, size: int = 4096) -> tuple[Tensor, Tensor]:
        """The sum of the losses of each row of a batch, and how many pairs it has, both ``[B]``."""
        total = torch.zeros(2, rows, dtype=torch.float64, device=self.inputs.device)
        for block, places in self.blocks(pairs, size):
            losses, there = self.score(block)
            each = torch.stack([losses.sum(1).double(), there.sum(1).double()])
            total.index_add_(1, pairs.row[places], each)
        return total[0].to(self.inputs.dtype), total[1]
