"""Joint generation of three views of a digit and of the labels of its digit and quadrant, for two CPU cores.

The task is that of PolyMNIST-Quadrant-Labels (MUNI, arXiv 2606.16408), on data of our own, see codi_jax/polymnist:
views of 32 pixels (64 as published: side=64), glyphs of 5000 MNIST digits, procedural backgrounds.

The run on pairs takes 3.5 hours of processes, two at a time, and that on tuples 4.5; docs/polymnist.md says what they
reach.

    codi-jax train --config=polymnist --workdir=out/polymnist_pairs --jobs=2           pairs with view_1 alone
    codi-jax train --config=polymnist:pairs=tuples --workdir=out/polymnist_tuples --jobs=2      a quarter complete
    codi-jax train --config=polymnist:tiny --workdir=out/tiny       the same recipe in seconds, for tests
    python -m benchmarks.polymnist --workdir=out/polymnist_pairs       measures a trained run
"""

from ml_collections import ConfigDict

from codi_jax.config_utils import options_of, to_config_dict
from codi_jax.presets.polymnist.recipe import run


def get_config(argument: str = "") -> ConfigDict:
    """The config.

    Its argument: `pairs=tuples` for tuples of which a quarter is complete; `side=64`; `length=2` for twice the steps;
    `own_share` and `environment_noise` of joint training; `tiny` for a few steps per stage.
    """
    return to_config_dict(run(**options_of(argument, run)))
