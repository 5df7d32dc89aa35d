"""What is inside a source: how many samples, of what, how long and large, which cannot be used; and a contact sheet."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data import files
from codi_jax.data.decoded_source import DecodedSource
from codi_jax.data.files import MediaError, MediaFile
from codi_jax.data.sheet import captions_of, contact_sheet
from codi_jax.data.skip_bad_samples import SkipBadSamples
from codi_jax.data.source import Source
from codi_jax.data.sources import make_source
from codi_jax.progress import ProgressFn

SHOWN = 12  # rows of the sheet, and refusals that are listed


def inspect(
    config: Mapping[str, Any],
    where: str,
    n: int,
    out: Path | None = None,
    progress: ProgressFn | None = None,
) -> str:
    """Looks at n samples of a source, evenly over all of it.

    Args:
      config: of the source, see `make_source`.
      where: its place in the whole config.
      n: how many samples to decode; all, if there are no more.
      out: folder for sheet.png; None for no sheet.
      progress: called before every sample.

    Returns:
      Lines for people.
    """
    if n < 1:
        raise ConfigError(f"--n: expected a positive number, got {n}")
    source: Any = make_source(config, where)
    source = source.source if isinstance(source, SkipBadSamples) else source  # as it is, nothing replaced
    chosen = np.unique(np.linspace(0, len(source) - 1, min(n, len(source))).round().astype(int))
    good: list[Any] = []
    refused: list[tuple[int, MediaError]] = []
    kinds: dict[str, list[dict[str, float]]] = {}
    for done, index in enumerate(map(int, chosen)):
        if progress is not None:
            progress("looking", done, len(chosen))
        try:
            good.append(source[index])
        except MediaError as error:
            refused.append((index, error))
            continue
        if isinstance(source, DecodedSource):
            for name, medium in source.record(index).items():
                if isinstance(medium, MediaFile):
                    kinds.setdefault(name, []).append(files.probe(medium))
    lines = [f"{len(source)} samples; looked at {len(chosen)}, of which {len(refused)} cannot be used"]
    if good:
        lines += _described(good[0], [caption for sample in good for caption in captions_of(sample)])
    for name, measures in kinds.items():
        for measure in dict.fromkeys(m for found in measures for m in found):
            values = [found[measure] for found in measures if measure in found]
            lines.append(f"  {name} file, {measure}: {_spread(values)}")
    if refused:
        by_reason = Counter(error.reason for _, error in refused)
        lines.append("cannot be used: " + ", ".join(f"{reason} {count}" for reason, count in by_reason.most_common()))
        lines += [f"  {index}: {error}" for index, error in refused[:SHOWN]]
    if out is not None and good:
        lines.append(str(_sheet(source, good[:SHOWN], out)))
    return "\n".join(lines)


def _described(sample: Any, captions: Sequence[str]) -> list[str]:
    """Shapes of the parts of a sample, and how long captions are."""
    lines = []
    for path, leaf in jax.tree.leaves_with_path(sample):
        name = "/".join(str(key.key) for key in path)
        if isinstance(leaf, str):
            lines.append(f"  {name}: {leaf!r:.100}")
        else:
            leaf = np.asarray(leaf)
            lines.append(f"  {name}: {leaf.dtype} {list(leaf.shape)}")
    if captions:
        lines.append(f"  words of a caption: {_spread([len(c.split()) for c in captions])}")
        lines.append(f"  different captions: {len(set(captions))} of {len(captions)}")
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):g} to {max(values):g}, median {statistics.median(values):g}"


def _sheet(source: Source, samples: Sequence[Any], out: Path) -> Path:
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
    rate = source.config.sample_rate if isinstance(source, DecodedSource) else 8000
    out.mkdir(parents=True, exist_ok=True)
    contact_sheet(stacked, rate).save(out / "sheet.png")
    return out / "sheet.png"
