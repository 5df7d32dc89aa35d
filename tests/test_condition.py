"""What a condition says."""

import pytest

from codi_jax.condition import Condition
from codi_jax.config import ConfigError


def test_a_condition_is_whole_a_part_or_a_change():
    assert Condition("a").whole and not Condition("a", strength=0.5).whole and not Condition("a", keep="0-1s").whole
    assert Condition("a", mask="m").partial and not Condition("a", strength=0.5).partial
    with pytest.raises(ConfigError, match="give one of them"):
        Condition("a", keep="0", mask="m")
    for strength in (0, -1, 1.1, "x", float("nan")):
        with pytest.raises(ConfigError, match="expected more than 0, and at most 1"):
            Condition("a", strength=strength)
    for scale in (-1, "x", float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=r"^reconstruction: expected a finite number of at least 0"):
            Condition("a", mask="m", reconstruction=scale)
    for alone in ({}, {"strength": 0.5}, {"keep": "beginning"}):
        with pytest.raises(ConfigError, match=r"^reconstruction: is guidance by a part that keep or mask keeps$"):
            Condition("a", reconstruction=1.0, **alone)
