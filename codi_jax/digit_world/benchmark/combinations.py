"""Every non-empty set of prompts to every non-empty set of outputs.

With M modalities there are (2^M - 1)² cells. Cells with the same outputs share batches: a modality that does not prompt
a row has mix weight 0 there, so that cells differ in data only and one compiled program serves all.

A cell has few samples, so no floor is on a single one: what is to be read is the mean over the cells. The same n test
samples prompt every cell, so the cells are not independent. The interval of the mean is that of `metrics.intervals`
over all cells x n results, clustered by test sample, or by the glyphs or speakers that test samples share if that is
wider.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from codi_jax import digit_world
from codi_jax.digit_world import LEADING
from codi_jax.digit_world.benchmark.samples import EvaluationSamples
from codi_jax.digit_world.judges.readers import Reading
from codi_jax.metrics.agreement import agreement, agrees
from codi_jax.metrics.intervals import proportion_interval

QUANTILES = (0.0, 0.05, 0.25, 0.5)  # over cells, of their digit accuracy
WORST = 5  # cells that are named


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All non-empty subsets by increasing size, each in the order of `names`."""
    return [s for size in range(1, len(names) + 1) for s in combinations(names, size)]


def batches(names: Sequence[str], n: int, batch: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """The batches of one set of outputs: the test sample that prompts each row, and the modalities that prompt it.

    Args:
      names: modalities of the model.
      n: samples of every cell; row i of cell c uses test sample i.
      batch: rows per batch; the last batch is padded with its first row.

    Yields:
      Row numbers in cell-major order [batch], and a weight 0 or 1 for each modality [batch].
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
    """The metrics of all cells of one set of outputs.

    Args:
      names: as for `batches`.
      outputs: the generated modalities.
      n: as for `batches`.
      truth: factor -> int [N], N >= n, of the test samples.
      read: output -> its reading, in cell-major order [cells · n].

    Yields:
      "A+B->C+D" and {"n", factor: {output: accuracy}}. A factor is listed if a prompt carries it, with the outputs that
      carry it.
    """
    for c, inputs in enumerate(subsets(names)):
        rows = slice(c * n, (c + 1) * n)
        cell: dict[str, Any] = {"n": n}
        for factor in digit_world.FACTORS:
            if not any(factor in digit_world.CARRIES[name] for name in inputs):
                continue
            accuracy = {
                name: agreement((truth[factor][:n], read[name].factors[factor][rows]))
                for name in outputs
                if factor in read[name].factors
            }
            if accuracy:
                cell[factor] = accuracy
        yield f"{'+'.join(inputs)}->{'+'.join(outputs)}", cell


def mean(read: Mapping[str, Mapping[str, Any]], samples: EvaluationSamples) -> dict[str, Any]:
    """The mean digit accuracy over all cells with its interval, see the module's docstring.

    Args:
      read: cell -> {"read": {output: {factor: int [n]}}}; the result of a sample is the fraction of its outputs that
        show the digit.
      samples: the test samples, of which the first n prompt every cell.

    Returns:
      {"cells", "n", LEADING, "interval" (95 %), "clusters", "n_effective"}.
    """
    hits = []
    for cell in read.values():
        outputs = [reading[LEADING] for reading in cell["read"].values()]
        n = len(outputs[0])
        hits.append(np.mean([agrees((samples.factors[LEADING][:n], digits)) for digits in outputs], axis=0))
    results = np.array(hits)
    count, n = results.shape
    shared = (np.arange(n), *(rows[:n] for rows in samples.clusterings(samples.values)))
    found = proportion_interval(results.ravel(), [np.tile(rows, count) for rows in shared])
    return {"cells": count, "n": n, LEADING: found.proportion, **found.entries()}


def summary(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Digit accuracy over cells, of a cell the mean over its outputs.

    Returns:
      {"cells", LEADING: mean, "quantiles": {quantile: rate} of `QUANTILES`, "worst": {cell: rate}, the lowest first}.
    """
    means = {name: float(np.mean(list(cell[LEADING].values()))) for name, cell in table.items()}
    rates = list(means.values())
    worst = sorted(means, key=means.__getitem__)[:WORST]
    return {
        "cells": len(means),
        LEADING: float(np.mean(rates)),
        "quantiles": {q: float(np.quantile(rates, q)) for q in QUANTILES},
        "worst": {w: means[w] for w in worst},
    }
