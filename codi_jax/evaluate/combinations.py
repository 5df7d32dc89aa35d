"""Every non-empty set of prompts to every non-empty set of outputs.

With M modalities there are (2^M - 1)² cells. Those of one set of outputs share batches: a row that is not prompted by a
modality gives it the mix weight 0, so that cells differ in data alone and cost no programs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from codi_jax.data import digit_world
from codi_jax.data.digit_world import LEADING
from codi_jax.evaluate.agreement import agreement
from codi_jax.evaluate.intervals import wilson
from codi_jax.evaluate.readers import Reading


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All non-empty subsets, the small ones first, each in the order of `names`."""
    return [s for size in range(1, len(names) + 1) for s in combinations(names, size)]


def batches(names: Sequence[str], n: int, batch: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """The batches of one set of outputs: which test sample a row is prompted with, and by which modalities.

    Args:
      names: modalities of the model.
      n: samples of every cell; row i of cell c uses test sample i.
      batch: rows of a batch; the last one is filled up with its first rows.

    Yields:
      Row numbers in cell-major order [batch], and a weight 0 or 1 a modality [batch].
    """
    sets = subsets(names)
    masks = {name: np.array([name in s for s in sets], np.float32) for name in names}
    for start in range(0, len(sets) * n, batch):
        row = np.arange(start, start + batch)
        row = np.where(row < len(sets) * n, row, start)
        yield row, {name: mask[row // n] for name, mask in masks.items()}


def cells(
    names: Sequence[str], outputs: Sequence[str], n: int, truth: Mapping[str, np.ndarray], read: Mapping[str, Reading]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """The numbers of all cells of one set of outputs.

    Args:
      names, n: as for `batches`.
      outputs: what was generated.
      truth: factor -> [N], N >= n, of the test samples.
      read: output -> what was read, in cell-major order [cells · n].

    Yields:
      "A+B->C+D" and {"n", factor: {output: accuracy}, "upper": {output: 95 % Wilson bound of digit}}; of a factor, the
      outputs that carry it where a prompt does.
    """
    for c, inputs in enumerate(subsets(names)):
        at = slice(c * n, (c + 1) * n)
        cell: dict[str, Any] = {"n": n}
        for factor in digit_world.FACTORS:
            if not any(factor in digit_world.CARRIES[name] for name in inputs):
                continue
            found = {
                name: agreement((truth[factor][:n], read[name].factors[factor][at]))
                for name in outputs
                if factor in read[name].factors
            }
            if found:
                cell[factor] = found
        cell["upper"] = {name: wilson(rate, n)[1] for name, rate in cell[LEADING].items()}
        yield f"{'+'.join(inputs)}->{'+'.join(outputs)}", cell


def summary(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean digit accuracy over all cells (each the mean of its outputs), and the worst cells."""
    means = {name: float(np.mean(list(cell[LEADING].values()))) for name, cell in table.items()}
    worst = sorted(means, key=means.__getitem__)[:5]
    return {"cells": len(means), LEADING: float(np.mean(list(means.values()))), "worst": {w: means[w] for w in worst}}
