"""Word vectors beside gensim's: the same text, settings and questions, turn by turn in processes of their own.

    python benchmarks/word_vectors.py [brown wikitext2] [--seeds 0 1 2] [--architecture skip_gram]
        [--loss negative_sampling] [--out runs/word_vectors/benchmark] [--write]

Each process trains once on one thread and writes what it measured; one whose file is there is not run again. CPU
seconds are those of the process from the text to the vectors: for gensim ``build_vocab`` and ``train`` on lists of
words made before, for us reading and cutting the text as well. ``--write`` puts the table into
``benchmarks/results/word_vectors.md``, each corpus in the place of its last.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean

from speed.sections import document

from lightning_rnn.interop.word2vec import WordTable
from lightning_rnn.paths import existing
from tasks.word_vectors.evaluation import analogies, similarity
from tasks.word_vectors.queries import WordQueries

RESULTS = Path(__file__).parent / "results" / "word_vectors.md"
EVALUATION = "word2vec/eval"
SETS = {
    "WS-353": "gensim_wordsim353.tsv",
    "SimLex-999": "gensim_simlex999.txt",
    "MEN": "word-sim/EN-MEN-TR-3k.txt",
}
CHUNK = 10_000  # words of a sentence that gensim is given, and of our rows
SIZE, WINDOW, NEGATIVE, EPOCHS, ALPHA, SAMPLE, MIN_COUNT, RESTRICT = 100, 5, 5, 5, 0.05, 1e-4, 5, 30_000
Result = dict[str, float]


@dataclass(frozen=True)
class Corpus:
    """A text, and whether it is lower-cased."""

    file: str
    lower: bool

    def words(self) -> list[str]:
        """Its words, as both are given them."""
        text = existing(self.file).read_text(encoding="utf-8")
        return (text.lower() if self.lower else text).split()


CORPORA = {
    "brown": Corpus("word2vec/corpora/brown.txt", lower=False),
    "wikitext2": Corpus("wikitext2/wiki.train.tokens", lower=True),
}


@dataclass(frozen=True)
class Setting:
    """What is trained."""

    corpus: str
    architecture: str
    loss: str

    @property
    def name(self) -> str:
        """As the files and the section are called."""
        return f"{self.corpus}, {self.architecture}, {self.loss}"


def gensim_trained(setting: Setting, seed: int) -> tuple[WordTable, float]:
    """Vectors of gensim, and the CPU seconds of counting and training."""
    from gensim.models import Word2Vec

    from lightning_rnn.interop.word2vec import from_gensim

    words = CORPORA[setting.corpus].words()
    sentences = [words[start : start + CHUNK] for start in range(0, len(words), CHUNK)]
    hierarchical = setting.loss == "hierarchical"
    model = Word2Vec(
        vector_size=SIZE,
        window=WINDOW,
        negative=0 if hierarchical else NEGATIVE,
        hs=int(hierarchical),
        sg=int(setting.architecture == "skip_gram"),
        alpha=ALPHA,
        sample=SAMPLE,
        min_count=MIN_COUNT,
        workers=1,
        seed=seed,
    )
    start = time.process_time()
    model.build_vocab(sentences)
    model.train(sentences, total_examples=model.corpus_count, epochs=EPOCHS)
    return from_gensim(model.wv), time.process_time() - start


def our_trained(setting: Setting, seed: int) -> tuple[WordTable, float]:
    """Our vectors, and the CPU seconds of reading the text and training."""
    import pytorch_lightning as pl

    from lightning_rnn.data import TextLines
    from lightning_rnn.training.resume import StepSeed
    from tasks.word_vectors import WordVectorData, WordVectors

    corpus = CORPORA[setting.corpus]
    pl.seed_everything(seed)
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, callbacks=[StepSeed(seed)],
    )  # fmt: skip
    start = time.process_time()
    data = WordVectorData(
        TextLines(corpus.file), cut="spaces", lower=corpus.lower, joined=True, piece_words=CHUNK, min_count=MIN_COUNT,
        subsample=SAMPLE, window=WINDOW, negatives=NEGATIVE, val_fraction=0, shuffle=False, batch_size=1, seed=seed,
    )  # fmt: skip
    model = WordVectors(SIZE, setting.architecture, loss=setting.loss, learning_rate=ALPHA)  # type: ignore[arg-type]
    trainer.fit(model, data)
    return model.table, time.process_time() - start


TRAINED = {"gensim": gensim_trained, "ours": our_trained}


def evaluated(table: WordTable) -> Result:
    """Analogies and similarity of vectors, in per cent and as rank correlation."""
    queries = WordQueries(table)
    solved = analogies(queries, existing(f"{EVALUATION}/questions-words.txt"), RESTRICT)
    semantic = [one for one in solved.sections if not one.name.startswith("gram")]
    found = {"analogies": 100 * solved.total.accuracy, "questions": float(solved.total.questions)}
    found["semantic"] = 100 * sum(len(one.correct) for one in semantic) / sum(one.questions for one in semantic)
    for name, file in SETS.items():
        found[name] = similarity(queries, existing(f"{EVALUATION}/{file}")).spearman
    return found


def measured(setting: Setting, who: str, seed: int, out: Path) -> Result:
    """What a process measured, which is run where there is nothing of it yet."""
    path = out / f"{setting.name.replace(', ', '-')}-{who}-{seed}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        args = [setting.corpus, "--one", who, "--seeds", str(seed), "--out", str(path)]
        args += ["--architecture", setting.architecture, "--loss", setting.loss]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run([sys.executable, __file__, *args], check=True, env=environment)
    result: Result = json.loads(path.read_text())
    return result


def rows(results: dict[str, list[Result]]) -> Iterator[str]:
    """The lines of the table: each seed, then the means."""
    columns = ["analogies", "semantic", *SETS, "CPU s"]
    yield "| | seed | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * (len(columns) + 1)
    for who, found in results.items():
        for one in found:
            yield f"| {who} | {one['seed']:.0f} | " + " | ".join(_told(name, one[name]) for name in columns) + " |"
    for who, found in results.items():
        means = (_told(name, mean(one[name] for one in found)) for name in columns)
        yield f"| **{who}, mean** | | " + " | ".join(means) + " |"


def _told(name: str, value: float) -> str:
    return f"{value:.3f}" if name in SETS else f"{value:.2f} %" if name != "CPU s" else f"{value:.1f}"


def section(setting: Setting, seeds: list[int], out: Path) -> list[str]:
    """Both, turn by turn, and their table."""
    results: dict[str, list[Result]] = {who: [] for who in TRAINED}
    for seed in seeds:
        for who, found in results.items():
            found.append(measured(setting, who, seed, out))
            print(setting.name, who, json.dumps(found[-1]), flush=True)
    ours, theirs = (mean(one["CPU s"] for one in results[who]) for who in ("ours", "gensim"))
    questions = int(results["ours"][0]["questions"])
    return [
        f"{SIZE} numbers, window {WINDOW}, {NEGATIVE} noise words, {EPOCHS} epochs, rate {ALPHA}, subsampling "
        f"{SAMPLE:g}, min count {MIN_COUNT}; {questions:,} analogies of the first {RESTRICT:,} words, rank correlation "
        f"with judgments. CPU time: {ours / theirs:.2f} times gensim's ({version('gensim')}), one thread.",
        "",
        *rows(results),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", choices=[*CORPORA, []], default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--architecture", choices=["skip_gram", "cbow"], default="skip_gram")
    parser.add_argument("--loss", choices=["negative_sampling", "hierarchical"], default="negative_sampling")
    parser.add_argument("--out", type=Path, default=Path("runs/word_vectors/benchmark"))
    parser.add_argument("--one", choices=[*TRAINED], help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    for corpus in given.corpora or CORPORA:
        setting = Setting(corpus, given.architecture, given.loss)
        if given.one:
            table, seconds = TRAINED[given.one](setting, given.seeds[0])
            found = {"seed": given.seeds[0], "CPU s": seconds, **evaluated(table)}
            given.out.write_text(json.dumps(found))
            return
        lines = section(setting, given.seeds, given.out)
        print("\n".join(lines))
        if given.write:
            old = RESULTS.read_text() if RESULTS.exists() else ""
            RESULTS.write_text(document(old, "Word vectors", {setting.name: lines}))


if __name__ == "__main__":
    main()
