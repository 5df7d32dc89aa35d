"""CoDi on text, image, audio and video, for two CPU cores.

At length=3, after 1.8 hours of processes on one core each, it is the packaged model, whose numbers are in
codi_jax/digit_world/weights/README.md. At length=1, after 40 minutes on two cores, text, image and audio meet the
default floors, but videos do not follow the motion of their prompts yet (0.62 of the ceiling, n = 32).

Data: digit_world (coloured MNIST digits that move, spoken digits, captions), in pools of pairs: text-image, text-audio,
text-video, audio-video. The classes are those of the config at the paper's size; only sizes differ. Video has its own
U-Net and CLIP tower, since temporal layers alone do not learn motion in a few minutes; it shares the codec of image.

    codi-jax train --config=digit_world --workdir=out/digit_world
    codi-jax train --config=digit_world:modalities=text+image --workdir=out/part      a subset
    codi-jax train --config=digit_world:length=3 --workdir=out/long       three times the steps
    codi-jax train --config=digit_world:start=package --workdir=out/v     V and X alone, from the packaged model
    codi-jax train --config=digit_world:start=package,loss=paper --workdir=out/paper     the paper's alignment
    codi-jax train --config=digit_world:start=package,tokens=map --workdir=out/map     one token per position
    codi-jax train --config=digit_world:start=package,anchor=none --workdir=out/none     V by the denoisers' losses
    codi-jax train --config=digit_world:start=package,distill=4 --workdir=out/four     four steps, no guidance
    codi-jax train --config=digit_world:start=package,distill=2,students=4 --config.weights=out/four --workdir=out/two
    codi-jax train --config=digit_world:pools=merged --reuse=out/digit_world --workdir=out/merged     all pairs
    codi-jax train --config=digit_world:length=3,n=256,floors=package --workdir=out/package/model   the packaged one
    codi-jax train --config=digit_world:judges --workdir=out/judges     judges for evaluation
    codi-jax train --config=digit_world:tiny --workdir=out/tiny       the same recipe in seconds, for tests
"""

from ml_collections import ConfigDict

from codi_jax.config_utils import options_of, to_config_dict
from codi_jax.presets.digit_world.recipe import run


def get_config(argument: str = "") -> ConfigDict:
    """The config.

    Its argument: `modalities=text+image` (or +audio) for a subset; `tiny` for a few steps per stage; `length=3` for
    three times the steps; `judges` to train the judges and similarity towers of the evaluation instead of the model;
    `n` of the evaluation, `pretrained` of which pretrained judges read. `loss=paper`, `tokens=map`, `pools=merged` are
    for comparison and change the last stages.
    """
    return to_config_dict(run(**options_of(argument, run)))
