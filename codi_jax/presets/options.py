"""What options of presets have in common."""

from codi_jax.config import ConfigError, did_you_mean


def subset(modalities: str | tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """The option `modalities`, names one by one or joined by "+", in the order of `known`.

    Raises:
      ConfigError: a name that is not in `known`.
    """
    requested = modalities.split("+") if isinstance(modalities, str) else modalities
    if unknown := [name for name in requested if name not in known]:
        hint = did_you_mean(unknown[0], known)
        raise ConfigError(f"option modalities: no {', '.join(unknown)}{hint}; there are {', '.join(known)}")
    return tuple(name for name in known if name in requested)
