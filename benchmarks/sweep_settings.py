"""The settings of sampling that `benchmarks.sweep` tries for each variant of the digit_world recipe.

One setting at a time changes around those of the config. It changes for all outputs; a delay for all but the model's
first modality, which the others wait for. What a config has already is left out, so that a variant with a delay of 5
and one without any have the same number of settings.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from codi_jax.config import ConfigError, did_you_mean
from codi_jax.sampling.config import GenerateConfig

MOST = 12  # settings of a variant, the present ones included

# Field -> values. Environment scale: agreement of outputs, against their fidelity. low: the interval of guidance.
# Delay: outputs start after the first modality. Prompt scale: of no effect without a prompt, so it is measured by the
# directions.
GRID: dict[str, tuple[float, ...]] = {
    "environment": (1.0, 2.0, 4.0, 8.0),
    "low": (0.0, 0.5),
    "delay": (0, 3, 5),
    "prompt": (1.0, 2.0, 6.0),
}
# What is done with the guided prediction (`diffusion.adjustment`): whether agreement can cost less fidelity.
ADJUSTMENTS: dict[str, tuple[float, ...]] = {
    "rescale": (0.5, 1.0),
    "parallel": (0.0, 0.5),
    "limit": (0.0, 0.25, 0.5, 1.0, 2.0),
}
# The paper's loss shares one t in training, so its config has no delay: 0 is the present value there.
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "packaged": GRID,
    "ours": GRID,
    "paper": GRID,
    "map": GRID,
    "merged": GRID,
    "adjusted": {**ADJUSTMENTS, "by_norm": (0, 1)},
    "by_norm": {"by_norm": (0, 1)},  # tokens of the others weighted by how much they know, or their mean
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting that is tried.

    Attributes:
      name: "present", or "FIELD=VALUE".
      field: what changes; "" for the present settings.
      generate: all settings of generation.
    """

    name: str
    field: str
    generate: GenerateConfig


def changed(present: GenerateConfig, field: str, value: float) -> GenerateConfig:
    """The settings with another value of a field for all outputs; `present` names all outputs."""
    if field == "delay":
        names = list(present.guidance)
        return dataclasses.replace(present, delay={name: int(value) * (name != names[0]) for name in names})
    if field == "by_norm":
        return dataclasses.replace(present, environment="by_norm" if value else "mean")
    guidance = {name: dataclasses.replace(rule, **{field: value}) for name, rule in present.guidance.items()}
    return dataclasses.replace(present, guidance=guidance)


def settings(present: GenerateConfig, modalities: Iterable[str], variant: str) -> list[Setting]:
    """The settings of a variant, the present ones first.

    Args:
      present: those of the model's config.
      modalities: of the model, in its order.
      variant: a key of GRIDS.

    Raises:
      ConfigError: an unknown variant, or more than MOST settings.
    """
    if variant not in GRIDS:
        raise ConfigError(f"no variant {variant!r}{did_you_mean(variant, GRIDS)}; there are {', '.join(GRIDS)}")
    base = present.only(modalities)
    out = [Setting("present", "", base)]
    out += [s for s in _changes(base, GRIDS[variant]) if s.generate != base]
    if len(out) > MOST:
        raise ConfigError(f"variant {variant!r} has {len(out)} settings; at most {MOST} are tried")
    return out


def _changes(base: GenerateConfig, grid: dict[str, tuple[float, ...]]) -> Iterator[Setting]:
    for field, values in grid.items():
        for value in values:
            yield Setting(f"{field}={value:g}", field, changed(base, field, value))
