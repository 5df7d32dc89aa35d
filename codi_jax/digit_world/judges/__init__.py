"""Judges: small classifiers, parsers and towers that read the factors of digit_world from values of a modality."""

from codi_jax.digit_world.judges.network import Judge, JudgeConfig, component, loss, read

__all__ = ["Judge", "JudgeConfig", "component", "loss", "read"]
