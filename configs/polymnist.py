"""Joint generation of three views of a digit and of the labels of its digit and quadrant, for two CPU cores.

The task is that of PolyMNIST-Quadrant-Labels (MUNI, arXiv 2606.16408), on data of our own, see codi_jax/polymnist:
views of 32 pixels (64 as published: side=64), glyphs of 5000 MNIST digits, procedural backgrounds.

One run on pairs has been trained: 2.4 hours of processes, two at a time. It does not reach its goal yet: prompted by
view_1, view_2 shows its digit in .88 of 200 validation samples (the judge reads .97 of real ones), but of 100 generated
together view_1 and the label of the digit agree in .62, two views in .44 to .56, and of 200 all five in .03. Tuples
have not been trained.

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
