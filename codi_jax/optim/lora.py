"""Which kernels a stage adapts by LoRA (`nn.lora`), and with which ranks: ordered regexes over their paths.

lora = {"rules": ("vision_unet/.*/(self|cross)/.*", ("vision_unet/.*/layer_(in|out)/kernel", 2)), "rank": 4}
"""

import difflib
from typing import Any

from codi_jax.config import ConfigError, config_class
from codi_jax.nn import lora
from codi_jax.optim import rules
from codi_jax.parallel import paths
from codi_jax.types import Params


@config_class()
class LoRAConfig:
    """The adapters that a stage trains in place of parameters.

    Attributes:
      rules: regexes over whole paths of kernels, or pairs (regex, rank); the first match decides. A kernel that none
        matches, or whose rank is 0, has no adapter.
      rank: of rules that name none.
      alpha: the product of an adapter's matrices is multiplied by alpha / rank; 0 for alpha = rank.
      merge: whether the stage saves its components with the adapters added. If not, it saves the adapters alone, which
        are added whenever a component is read, and can be exported.
    """

    rules: tuple[Any, ...]
    rank: int = 4
    alpha: float = 0.0
    merge: bool = False

    def __post_init__(self):
        if self.alpha < 0:
            raise ConfigError(f"lora.alpha: {self.alpha} is negative")


def ranks(params: Params, config: LoRAConfig, where: str) -> dict[str, int]:
    """The rank of every kernel that is adapted, by path.

    Args:
      params: {component: tree} of arrays or ShapeDtypeStructs.
      config: the rules.
      where: names them in messages.

    Raises:
      ConfigError: a rule is malformed or is the first match of no kernel, a rank is no positive number or larger than
        a width of its kernel, or nothing is adapted.
    """
    shapes = lora.kernels(params)
    pairs = [(rule, config.rank) if isinstance(rule, str) else rule for rule in config.rules]
    for regex, pattern, rank in paths.compile_rules(pairs, where):
        if type(rank) is not int or rank < 0:
            raise ConfigError(f"{where}: the rank of {regex!r} is {rank!r}, expected a whole number from 0")
        if not any(map(pattern.fullmatch, shapes)):
            near = ", ".join(difflib.get_close_matches(regex, shapes, 3, 0.0)) or "none"
            raise ConfigError(f"{where}: {regex!r} matches no kernel; the nearest are {near}")
    found = {path: rank for path, rank in rules.assign(shapes, pairs, 0, where).items() if rank}
    for path, rank in found.items():
        if rank > min(shapes[path].shape[-2:]):
            raise ConfigError(f"{where}: rank {rank} for {path} {list(shapes[path].shape)}, which is not of lower rank")
    if not found:
        raise ConfigError(f"{where}: no kernel is adapted")
    return found
