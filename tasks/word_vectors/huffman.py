"""The binary tree of hierarchical softmax."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Tree(NamedTuple):
    """A Huffman tree over ``V`` words, of ``V - 1`` inner nodes.

    Attributes:
        nodes: int64 ``[V, L]``, the inner nodes from the root to each word, 0 after its path.
        codes: float32 ``[V, L]``, 1 where the path turns right.
        lengths: int64 ``[V]``, of the paths.
    """

    nodes: Tensor
    codes: Tensor
    lengths: Tensor


def huffman_tree(counts: Sequence[int]) -> Tree:
    """The tree in which frequent words have short paths (Huffman 1952); the rarer branch is on the left.

    Args:
        counts: of each word; at least two words.

    Example:
        >>> tree = huffman_tree([9, 2, 1])
        >>> tree.lengths.tolist(), tree.codes[:, 0].tolist()
        ([1, 2, 2], [1.0, 0.0, 0.0])
    """
    size = len(counts)
    parent, right = [0] * (2 * size - 1), [False] * (2 * size - 1)
    heap = [(count, word) for word, count in enumerate(counts)]
    heapq.heapify(heap)
    for inner in range(size, 2 * size - 1):
        (first, left), (second, other) = heapq.heappop(heap), heapq.heappop(heap)
        parent[left] = parent[other] = inner
        right[other] = True
        heapq.heappush(heap, (first + second, inner))
    paths = [_path(word, parent, right, size) for word in range(size)]
    longest = max(len(path) for path in paths)
    nodes, codes = torch.zeros(size, longest, dtype=torch.int64), torch.zeros(size, longest)
    for word, path in enumerate(paths):
        nodes[word, : len(path)] = torch.tensor([node for node, _ in path])
        codes[word, : len(path)] = torch.tensor([float(turn) for _, turn in path])
    return Tree(nodes, codes, torch.tensor([len(path) for path in paths]))


def _path(word: int, parent: list[int], right: list[bool], size: int) -> list[tuple[int, bool]]:
    """The inner nodes (the root is 0) from the root to a word, and which way the path goes there."""
    found, place, root = list[tuple[int, bool]](), word, 2 * size - 2
    while place != root:
        found.append((root - parent[place], right[place]))
        place = parent[place]
    return found[::-1]
