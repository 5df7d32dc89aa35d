"""A summary of a source (number, shapes and sizes of its samples, samples that cannot be used) and a contact sheet."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import DecodedSource
from codi_jax.data.skip_bad_samples import SkipBadSamples
from codi_jax.data.source import Source, make_source
from codi_jax.media.files import MediaError, MediaFile
from codi_jax.media.metadata import probe
from codi_jax.media.sheet import captions_of, contact_sheet
from codi_jax.progress import ProgressFn

SHOWN = 12  # rows of the contact sheet, and bad samples listed
CAPTIONS = 3  # that are listed


def inspect(
    config: Mapping[str, Any],
    where: str,
    n: int,
    out: Path | None = None,
    progress: ProgressFn | None = None,
) -> str:
    """Reads n samples, evenly spaced over a source, and describes them.

    Args:
      config: config of the source, see `make_source`.
      where: path of `config` in the whole config, for messages.
      n: how many samples to read; all, if the source has no more.
      out: folder for sheet.png; None for no contact sheet.
      progress: called before every sample.

    Returns:
      The summary, as lines of text.

    Raises:
      ConfigError: `n` is not positive, or the config is wrong.
    """
    if n < 1:
        raise ConfigError(f"--n: expected a positive number, got {n}")
    source: Any = make_source(config, where)
    source = source.source if isinstance(source, SkipBadSamples) else source  # without replacements
    indices = np.unique(np.linspace(0, len(source) - 1, min(n, len(source))).round().astype(int))
    good: list[Any] = []
    bad: list[tuple[int, MediaError]] = []
    metadata: dict[str, list[dict[str, float]]] = {}
    for done, index in enumerate(map(int, indices)):
        if progress is not None:
            progress("reading samples", done, len(indices))
        try:
            good.append(source[index])
        except MediaError as error:
            bad.append((index, error))
            continue
        if isinstance(source, DecodedSource):
            for name, file in source.record(index).items():
                if isinstance(file, MediaFile):
                    metadata.setdefault(name, []).append(probe(file))
    lines = [f"{len(source)} samples; read {len(indices)}, of which {len(bad)} cannot be used"]
    if isinstance(source, DecodedSource):
        lines += [f"  {note}" for note in source.notes()]
    if good:
        lines += _describe(good[0], [caption for sample in good for caption in captions_of(sample)])
    for name, rows in metadata.items():
        for field in dict.fromkeys(field for row in rows for field in row):
            values = [row[field] for row in rows if field in row]
            lines.append(f"  {name} file, {field}: {_spread(values)}")
    if bad:
        by_reason = Counter(error.reason for _, error in bad)
        lines.append("cannot be used: " + ", ".join(f"{reason} {count}" for reason, count in by_reason.most_common()))
        lines += [f"  {index}: {error}" for index, error in bad[:SHOWN]]
    if out is not None and good:
        lines.append(str(_sheet(source, good[:SHOWN], out)))
    return "\n".join(lines)


def _describe(sample: Any, captions: Sequence[str]) -> list[str]:
    """The shape of each leaf of a sample, and the length of captions."""
    lines = []
    for path, leaf in jax.tree.leaves_with_path(sample):
        name = "/".join(str(key.key) for key in path)
        if isinstance(leaf, str):
            lines.append(f"  {name}: {leaf!r:.100}")
        else:
            leaf = np.asarray(leaf)
            lines.append(f"  {name}: {leaf.dtype} {list(leaf.shape)}")
    if captions:
        lines.append(f"  words per caption: {_spread([len(c.split()) for c in captions])}")
        different = list(dict.fromkeys(captions))
        lines.append(f"  different captions: {len(different)} of {len(captions)}")
        lines += [f"    {caption!r:.100}" for caption in different[:CAPTIONS]]
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):g} to {max(values):g}, median {statistics.median(values):g}"


def _sheet(source: Source, samples: Sequence[Any], out: Path) -> Path:
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
    rate = source.config.sample_rate if isinstance(source, DecodedSource) else 8000
    out.mkdir(parents=True, exist_ok=True)
    contact_sheet(stacked, rate).save(out / "sheet.png")
    return out / "sheet.png"
