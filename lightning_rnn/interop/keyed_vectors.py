"""gensim's saved KeyedVectors, read without gensim and without running what a pickle may hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from lightning_rnn.errors import DataError

ALLOWED = {  # what such a pickle may name, and what stands for it; anything else is refused
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
MAKERS = {"_reconstruct": np.zeros(0).__reduce__()[0], "scalar": np.float32(0).__reduce__()[0]}
FROM_BUFFER = np.zeros(1).__reduce_ex__(5)[0]  # of numbers only
MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
PROTOCOL_5 = {("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")}
KEYED = ("gensim.models.keyedvectors", "gensim.models.word2vec")
APART = "__numpys"  # attributes that gensim keeps in files of their own


class SavedKeyedVectors:
    """The attributes of a saved ``KeyedVectors``: ``index_to_key``, ``vectors``, ``expandos`` and others."""

    index_to_key: list[str]
    vectors: Any
    expandos: dict[str, Any]


class _Reader(pickle.Unpickler):
    """Knows arrays, plain values and ``KeyedVectors``, whose place :class:`SavedKeyedVectors` takes."""

    def find_class(self, module: str, name: str) -> Any:
        if module in KEYED and name in ("KeyedVectors", "Word2VecKeyedVectors"):
            return SavedKeyedVectors
        if module in MULTIARRAY and name in MAKERS:
            return MAKERS[name]
        if (module, name) in PROTOCOL_5:
            return FROM_BUFFER
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_keyed_vectors(path: Path) -> SavedKeyedVectors:
    """What ``KeyedVectors.save`` of gensim 4 wrote.

    A pickle can run any code when it is loaded. This one is read with an allow-list of arrays, plain values and the
    class itself, whose place a class without methods takes, so nothing of the file runs. Arrays in files of their own
    (``.vectors.npy``) are read without pickles.

    Args:
        path: of the file; those of large arrays lie beside it.

    Raises:
        DataError: it is no such file, names something else, or a file beside it is missing.

    Example:
        .. code-block:: python

            table = from_gensim(read_keyed_vectors(Path("vectors.kv")))
    """
    try:
        with path.open("rb") as stream:
            keyed = _Reader(stream).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not what KeyedVectors.save of gensim 4 writes ({' '.join(str(error).split())}): write the "
            "vectors of a model as model.wv.save(path), or with save_word2vec_format"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}): check the path and its permissions") from error
    if not isinstance(keyed, SavedKeyedVectors) or not {"index_to_key", "expandos"} <= vars(keyed).keys():
        raise DataError(f"{path} holds no KeyedVectors of gensim 4: save them again with a gensim of today")
    for name in vars(keyed).get(APART, []):
        setattr(keyed, str(name), _array(path.with_name(f"{path.name}.{name}.npy")))
    if "vectors" not in vars(keyed):
        raise DataError(f"{path} holds no vectors: save them again with a gensim of today")
    return keyed


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error}): it belongs beside the file without .npy, copy both") from error
