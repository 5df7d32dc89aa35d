"""SIM, the similarity of outputs that were generated together (CoDi, arXiv 2305.11846, section 5.2).

    sim(A, B) = mean_i cos( T_A(a_i), T_B(b_i) )                        of one sample's outputs A and B
    SIM       = mean over towers and pairs of outputs of sim(A, B)

A tower T is an encoder of several outputs into one space: CLIP of images and text, CLAP of audio and text, ImageBind of
all. Its embeddings are given, and every pair of outputs that it embeds is compared:

    metric = OutputSimilarity({"clip": Tower(512, ("image", "text")), "clap": Tower(512, ("audio", "text"))})
    compute(metric, [{"clip": {"image": …, "text": …}, "clap": {"audio": …, "text": …}}])

SIM has meaning only beside its controls: `shuffled`, outputs of different samples (`cosine`, exact), and the SIM of
outputs that were generated independently of one another from the same prompts, which is a second run of this metric.
Towers that the generator was trained with make it circular. It has no unit, and depends on the towers.
"""

import dataclasses
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from codi_jax.metrics.cosine import CosineSums, PairedCosine

Embeddings = Mapping[str, Mapping[str, np.ndarray]]  # tower -> output -> [n, D], or of frames [n, T, D]


class Tower(NamedTuple):
    """D, the size of its embeddings, and the names of the outputs that it embeds."""

    size: int
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class OutputSimilarity:
    """Metric of batches of `Embeddings`.

    Its numbers are {"sim", "shuffled", "n"}, and by pair those of `PairedCosine`, as "clip/image+text/cosine".

    Attributes:
      towers: name -> tower.
    """

    towers: Mapping[str, Tower]

    def __post_init__(self):
        if not self.towers or any(len(set(tower.outputs)) < 2 for tower in self.towers.values()):
            raise ValueError(f"towers: each must embed at least two outputs, got {dict(self.towers)}")

    def _pairs(self) -> dict[tuple[str, str, str], PairedCosine]:
        return {
            (name, a, b): PairedCosine(tower.size)
            for name, tower in self.towers.items()
            for a, b in combinations(tower.outputs, 2)
        }

    def init(self) -> dict[str, CosineSums]:
        return {"/".join(key): metric.init() for key, metric in self._pairs().items()}

    def update(self, state: Mapping[str, CosineSums], batch: Embeddings) -> dict[str, CosineSums]:
        given = [f"{name} of {output}" for name, of in batch.items() for output in of]
        wanted = [f"{name} of {output}" for name, tower in self.towers.items() for output in tower.outputs]
        if sorted(given) != sorted(wanted):
            raise ValueError(f"expected embeddings by {', '.join(wanted)}; got {', '.join(given)}")
        if len(counts := {len(x) for of in batch.values() for x in of.values()}) > 1:
            raise ValueError(f"expected as many samples of every output, got {sorted(counts)}")
        return {
            "/".join(key): metric.update(state["/".join(key)], (batch[key[0]][key[1]], batch[key[0]][key[2]]))
            for key, metric in self._pairs().items()
        }

    def merge(self, a: Mapping[str, CosineSums], b: Mapping[str, CosineSums]) -> dict[str, CosineSums]:
        return {"/".join(key): m.merge(a["/".join(key)], b["/".join(key)]) for key, m in self._pairs().items()}

    def compute(self, state: Mapping[str, CosineSums]) -> dict[str, float]:
        numbers = {key: metric.compute(state["/".join(key)]) for key, metric in self._pairs().items()}
        return {
            "sim": float(np.mean([of["cosine"] for of in numbers.values()])),
            "shuffled": float(np.mean([of["shuffled"] for of in numbers.values()])),
            "n": next(iter(numbers.values()))["n"],
            **{
                f"{tower}/{a}+{b}/{name}": value
                for (tower, a, b), of in numbers.items()
                for name, value in of.items()
                if name != "n"
            },
        }
