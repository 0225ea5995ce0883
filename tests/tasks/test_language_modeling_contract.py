"""What the contract holds streams to: it can fail, and says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lightning_rnn.data.lanes import Chunk
from lightning_rnn.data.module import BatchOrder, Split, SplitData
from lightning_rnn.testing.contract import check_carried, check_invariances, check_order, first_keys
from lightning_rnn.training.carry import Carry
from lightning_rnn.types import SequenceBatch, State
from tasks.language_modeling import LanguageData, LanguageModel


@pytest.fixture(scope="module")
def data() -> LanguageData:
    loaded = LanguageData()
    loaded.setup("fit")
    return loaded


def model_of(data: LanguageData) -> LanguageModel:
    model = LanguageModel(embedding_size=8, hidden_size=8, scale_embedding=True)
    model.spec = data.spec
    model.configure_model()
    return model


def test_chunks_of_a_stream_are_checked_like_rows(data: LanguageData) -> None:
    keys = first_keys(data.split("val"))
    assert all(isinstance(key, Chunk) and key.begins for key in keys)
    assert len({key.stop - key.start for key in keys}) == len(keys) > 1
    check_invariances(model_of(data), data)
    check_carried(model_of(data), data)


def test_a_model_that_forgets_its_state_does_not_keep_the_contract(data: LanguageData) -> None:
    class Forgetful(Carry):
        def take(self, batch: SequenceBatch) -> State | None:
            return None

    model = model_of(data)
    model.carries[False] = Forgetful()
    with pytest.raises(AssertionError, match="chunks with carried state have another loss than the whole"):
        check_carried(model, data)


class Broken:
    """An order in which one chunk takes the place of another, or is left out."""

    def __init__(self, order: BatchOrder, repeated: bool) -> None:
        self.order, self.repeated = order, repeated
        self.epoch, self.start = 0, 0

    def __iter__(self) -> Iterator[list[Chunk]]:
        self.order.epoch, self.order.start = self.epoch, self.start
        batches = list(self.order)
        yield from [batches[0], *batches[:1], *batches[2:]] if self.repeated else batches[1:]

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


@pytest.mark.parametrize("repeated", [True, False])
def test_steps_that_are_lost_or_repeated_do_not_keep_the_contract(repeated: bool) -> None:
    class Lossy(LanguageData):
        def order(self, name: Split, split: SplitData) -> BatchOrder:
            return Broken(super().order(name, split), repeated)

    with pytest.raises(AssertionError, match=r"steps of a stream are lost or repeated|does not go on"):
        check_order(Lossy)
