"""CoDi on text and image, for two CPU cores.

Reaches, in six minutes on two cores: every direction shows the digit in 0.85 and the colour in 0.80 of what real
samples show, and both outputs of joint generation the same digit in 0.80 of the samples; README.md has the table.

Data: digit_world (coloured MNIST digits and captions). The classes are those of the paper's size; only numbers differ.

    codi-jax train --config=demo --workdir=out/demo
    codi-jax train --config=demo:tiny --workdir=out/tiny       the same recipe in seconds, for tests
"""

from ml_collections import ConfigDict

from codi_jax.config_utils import options_of, to_config_dict
from codi_jax.presets.demo import run


def get_config(argument: str = "") -> ConfigDict:
    """The config; argument `tiny` reduces every stage to a few steps."""
    return to_config_dict(run(**options_of(argument, run)))
