"""Multi30k: captions of photographs in English, German and French, from its own files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lightning_rnn.data.download import fetch
from lightning_rnn.data.module import Split
from lightning_rnn.data.parallel import line_pairs
from lightning_rnn.errors import DataError, require
from lightning_rnn.paths import cache_path, data_path

from .pairs import Pairs, PairSource

Test = Literal["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco", "test_2018_flickr"]
Form = Literal["raw", "tok"]
LANGUAGES = ("en", "de", "fr")
MIRROR = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1"
_NAMES: dict[str, str] = {"raw": "{}.{}.gz", "tok": "{}.lc.norm.tok.{}"}


class Multi30k(PairSource):
    """Multi30k (Elliott et al. 2016, 2017): 29,000 pairs to train on, 1,014 to choose by, four test sets.

    A file is read from ``folder``, below ``raw`` or ``tok``, where it is there, else downloaded into the cache and
    checked. It may not be passed on, so the package has none of it.

    Args:
        pair: of languages among en, de and fr, source first: ``en-fr``.
        test: the test set: ``test_2016_flickr`` (1,000 pairs), ``test_2017_flickr`` (1,000), ``test_2017_mscoco``
            (461, ambiguous verbs) or ``test_2018_flickr`` (1,071).
        form: ``raw``, sentences as they were written, or ``tok``, lower-cased, normalized and tokenized.
        tokenized: whether the validation and test parts bring the ``tok`` file of the target side, for the BLEU of the
            LIUM protocol.
        folder: of the local files, relative to the data folder.

    Raises:
        ConfigError: no such pair.

    Example:
        >>> Multi30k("fr-de").languages
        ('fr', 'de')
    """

    def __init__(
        self,
        pair: str = "en-fr",
        test: Test = "test_2016_flickr",
        form: Form = "raw",
        tokenized: bool = True,
        folder: str = "multi30k",
    ) -> None:
        source, _, target = pair.partition("-")
        known = source in LANGUAGES and target in LANGUAGES and source != target
        require(known, f"pair must be two of {', '.join(LANGUAGES)}, such as en-fr, got {pair!r}")
        self.languages, self.form, self.tokenized, self.folder = (source, target), form, tokenized, folder
        self.parts: dict[Split, str] = {"train": "train", "val": "val", "test": test}

    def prepare(self) -> None:
        """Download into the cache what ``folder`` lacks."""
        for split in self.parts:
            for form, name in self._names(split):
                if not self._local(form, name).is_file():
                    fetch(name, cache_path("multi30k") / form, [f"{MIRROR}/{form}"], f"sha256:{CHECKSUMS[name]}")

    def read(self, split: Split) -> Pairs | None:
        """The pairs of a part; see :meth:`PairSource.read`."""
        if split not in self.parts:
            return None
        one, other, *tokenized = (self._file(form, name) for form, name in self._names(split))
        pairs = list(line_pairs((one, other)))
        tokens = [right for _, right in line_pairs((other, tokenized[0]))] if tokenized else None
        return Pairs(
            [left for left, _ in pairs], [right for _, right in pairs], (str(one), str(other)), tokenized=tokens
        )

    def _names(self, split: Split) -> list[tuple[Form, str]]:
        """The form and the name of each file of a part."""
        part, (source, target) = self.parts[split], self.languages
        names: list[tuple[Form, str]] = [(self.form, _NAMES[self.form].format(part, side)) for side in (source, target)]
        return names + ([("tok", _NAMES["tok"].format(part, target))] if self.tokenized and split != "train" else [])

    def _local(self, form: Form, name: str) -> Path:
        return data_path(self.folder) / form / name

    def _file(self, form: Form, name: str) -> Path:
        places = self._local(form, name), cache_path("multi30k") / form / name
        for place in places:
            if place.is_file():
                return place
        raise DataError(
            f"{name} is neither in {places[0].parent} nor in {places[1].parent}: put it there or download it"
        )


CHECKSUMS: dict[str, str] = {  # SHA-256
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
    "test_2017_flickr.de.gz": "a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee",
    "test_2017_flickr.en.gz": "76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074",
    "test_2017_flickr.fr.gz": "3ba671ceb2299f3304ffafefea7a833d08632fbaf0ba18546f8a2ec2391af496",
    "test_2017_mscoco.de.gz": "799e4854c25d601cb6cb6be29eabe5667734c61ace2f495e03e429031a0bc338",
    "test_2017_mscoco.en.gz": "aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58",
    "test_2017_mscoco.fr.gz": "754f3072ba9f124569ba5258b32730fc1d214bbf8e0c6dfb2b74401676220db0",
    "test_2018_flickr.de.gz": "ddd0130c7d97482dc5197a02141dae8dd79f20f03586c480d675c09a32daf608",
    "test_2018_flickr.en.gz": "ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d",
    "test_2018_flickr.fr.gz": "fb2b83fcceb937a4f7e3e93c1c51c22aba92f1e342391e6b5ba392b16a920501",
    "train.lc.norm.tok.de": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    "train.lc.norm.tok.en": "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    "train.lc.norm.tok.fr": "8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1",
    "val.lc.norm.tok.de": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "val.lc.norm.tok.en": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "val.lc.norm.tok.fr": "b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a",
    "test_2016_flickr.lc.norm.tok.de": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    "test_2016_flickr.lc.norm.tok.en": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    "test_2016_flickr.lc.norm.tok.fr": "1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836",
    "test_2017_flickr.lc.norm.tok.de": "02067e4a9402786a4fcb8c1b6f4307e4a5073ced64800abead5273b54f5f31f6",
    "test_2017_flickr.lc.norm.tok.en": "c9d1dfd7a26add989382e534af235af9f0f658b2a30e7eb0efdaf142496ee54f",
    "test_2017_flickr.lc.norm.tok.fr": "c0583117a47b31e8a6c6a97cfe8de153e462074668f4e994764fcc80b21d33b4",
    "test_2017_mscoco.lc.norm.tok.de": "e2825990b8a4e5289d2cdba801d57c187810bab9b4f5d87a30c35800a0d871b6",
    "test_2017_mscoco.lc.norm.tok.en": "fe69ae004d71c42ead0301e70c57de5b1b6b5fb7f52210d42b22801e98e656f3",
    "test_2017_mscoco.lc.norm.tok.fr": "0b6a4620f02b6b9acf7811fda23f90fed9c6baa0b96aa224db50a273078c84d1",
    "test_2018_flickr.lc.norm.tok.de": "45ce6b121708adf538d3a8c71dc1acbcb1e0f2bca74ace8e58652f9ea5b96335",
    "test_2018_flickr.lc.norm.tok.en": "a66e25cbb8323d74a40873dcd222659f39e30ee7687a6ed5445833aed0673239",
    "test_2018_flickr.lc.norm.tok.fr": "22d44a4ba21e050f218399f2c4f9e1a36875f209820c1f1c9af5b76a2947a71c",
}
