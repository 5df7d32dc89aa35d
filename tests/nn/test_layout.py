"""The layout of the U-Net against the release, and at other depths."""

import dataclasses

from codi_jax.nn import EnvironmentConfig, UNetConfig
from codi_jax.nn.layout import environment_steps, input_steps, output_steps
from tests.nn import toy

PAPER = UNetConfig(kind="spatial", latent_channels=4, channels=320, context_width=768)


def where(steps, field):
    return [step.place[1] for step in steps if getattr(step, field)]


def test_input_steps_of_the_release():
    steps = input_steps(PAPER)
    assert [s.place for s in steps] == [("inputs", i) for i in range(12)]
    assert [s.content for s in steps] == ["stem", *["residual", "residual", "down"] * 3, "residual", "residual"]
    assert [s.width for s in steps] == [320, 320, 320, 320, 640, 640, 640, 1280, 1280, 1280, 1280, 1280]
    assert where(steps, "attend") == where(steps, "connect") == [1, 2, 4, 5, 7, 8]


def test_output_steps_of_the_release():
    steps = output_steps(PAPER)
    assert [s.place for s in steps] == [("outputs", i) for i in range(12)]
    assert [s.width for s in steps] == [1280] * 6 + [640] * 3 + [320] * 3
    assert where(steps, "attend") == where(steps, "connect") == list(range(3, 12))
    assert where(steps, "up") == [2, 5, 8]


def test_environment_steps_of_the_release():
    steps = environment_steps(EnvironmentConfig(kind="spatial", latent_channels=4, channels=320, width=1280))
    assert [s.content for s in steps] == ["stem", "residual", "down", "residual", "down", "residual"]
    assert [s.width for s in steps] == [160, 320, 320, 640, 640, 1280]
    assert [s.place for s in steps] == [("stages", i) for i in range(6)]


def test_every_skip_has_an_output_step_at_any_depth():
    for levels, blocks in ((1, (3,)), (2, (1, 2)), (3, (2, 1, 1))):
        flags = (True,) * levels
        config = dataclasses.replace(
            toy.SPATIAL, multipliers=(1,) * levels, blocks=blocks, attention_levels=flags, cross_modal_levels=flags
        )
        assert len(input_steps(config)) == len(output_steps(config)) == sum(blocks) + levels
        assert sum(s.up for s in output_steps(config)) == sum(s.content == "down" for s in input_steps(config))
