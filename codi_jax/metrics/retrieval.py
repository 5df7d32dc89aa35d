"""Retrieval between two sets of embeddings, such as images and captions, in both directions.

With rank(q) the place at which query q finds what belongs to it (`ranks`, where ties count as the worst place), over
n queries

    recall at K = |{ q : rank(q) ≤ K }| / n             in [0, 1], K = 1, 5, 10
    median and mean rank                                from 1, the best
    tied        = |{ q : another row is as near as what belongs to q }| / n

By chance recall at K is K over the number of candidates, so compare numbers of equally many. A large `tied` says that
embeddings are equal, or that items are, which then belong together (`groups`).

    from codi_jax.metrics.base import compute
    from codi_jax.metrics.retrieval import Retrieval

    compute(Retrieval(("image", "text")), [(image_embeddings, text_embeddings)])      # {"image_to_text/recall_1": …}

The state is the embeddings, 4 bytes a number. For more rows than one host holds give a mesh over the devices of all
processes: `compute` is then a collective, each process passes the state of its own rows, not merged with those of
others, and all get the numbers of all rows.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from codi_jax.config import ConfigError
from codi_jax.metrics.ranks import TILE, Ranks, check, ranks, spans_processes
from codi_jax.parallel import distributed

RECALL_AT = (1, 5, 10)

Batch = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, np.ndarray]


class Embeddings(NamedTuple):
    """Rows of a, float32 [n, D], rows of b, float32 [m, D], and the row of a that each belongs to, int64 [m]."""

    a: np.ndarray
    b: np.ndarray
    groups: np.ndarray


def summary(of: Ranks) -> dict[str, float]:
    """{"recall_1", "recall_5", "recall_10", "median_rank", "mean_rank", "tied", "n"} of the ranks of n queries.

    Raises:
      ConfigError: there are none.
    """
    if not len(of.rank):
        raise ConfigError("no ranks to summarise")
    return {
        **{f"recall_{k}": float((of.rank <= k).mean()) for k in RECALL_AT},
        "median_rank": float(np.median(of.rank)),
        "mean_rank": float(of.rank.mean()),
        "tied": float((of.ties > 0).mean()),
        "n": float(len(of.rank)),
    }


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Metric {"A_to_B/…", "B_to_A/…"} of batches (a [n, D], b [n, D]) of pairs, or (a, b [m, D], groups [m]).

    "…" are the numbers of `summary`. All captions of an item are in its batch; `groups` says to which row of a of the
    batch each row of b belongs.

    Attributes:
      names: A and B.
      mesh: devices that the rows are split over; None for one device.
      tile: rows and columns of a tile, see `ranks`.
    """

    names: tuple[str, str] = ("a", "b")
    mesh: Mesh | None = None
    tile: int = TILE

    def init(self) -> Embeddings:
        return Embeddings(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), np.zeros(0, np.int64))

    def update(self, state: Embeddings, batch: Batch) -> Embeddings:
        return self.merge(state, Embeddings(*check(*batch)))

    def merge(self, a: Embeddings, b: Embeddings) -> Embeddings:
        if not len(a.a) or not len(b.a):
            return b if not len(a.a) else a
        if a.a.shape[1] != b.a.shape[1]:
            raise ConfigError(f"expected embeddings of one size, got {a.a.shape[1]} and {b.a.shape[1]} numbers")
        return Embeddings(
            np.concatenate([a.a, b.a]),
            np.concatenate([a.b, b.b]),
            np.concatenate([a.groups, b.groups + len(a.a)]),
        )

    def compute(self, state: Embeddings) -> dict[str, float]:
        if not len(state.a) and not spans_processes(self.mesh):
            raise ConfigError("no embeddings to rank")
        both = ranks(*state, mesh=self.mesh, tile=self.tile)
        if spans_processes(self.mesh):
            both = jax.tree.map(lambda *of_all: np.concatenate(of_all), *distributed.gather(both))
        a, b = self.names
        names = (f"{a}_to_{b}", f"{b}_to_{a}")
        return {f"{n}/{key}": x for n, of in zip(names, both, strict=True) for key, x in summary(of).items()}
