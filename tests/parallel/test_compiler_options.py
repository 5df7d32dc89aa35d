"""Compiler options: they reach the compiler, which knows them and their values."""

import dataclasses

import jax
import pytest

from codi_jax.config import ConfigError, from_dict
from codi_jax.parallel import MeshConfig, make_mesh
from codi_jax.parallel.compiler_options import check
from codi_jax.plan.shapes import step_of
from codi_jax.train.recipe import Run, RunConfig
from configs import demo


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"xla_foo": 1}, r"config.compiler_options: No such compile option: 'xla_foo' \(compiling for cpu\)"),
        ({"xla_cpu_use_onednn": "maybe"}, "'maybe' is not a valid bool value"),
    ],
)
def test_an_unknown_option_or_value_is_one_line(options, message):
    with pytest.raises(ConfigError, match=message):
        check(options, make_mesh(MeshConfig(data=1), jax.devices()[:1]))


def test_options_are_those_of_the_train_step(tmp_path):
    config = from_dict(RunConfig, demo.get_config("tiny"))
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    options = {"xla_dump_to": str(tmp_path), "xla_dump_hlo_as_text": True, "xla_backend_optimization_level": 0}
    run = Run(dataclasses.replace(config, compiler_options=options), None)
    program, arguments = step_of(run, "codec.text", mesh, 2)
    with jax.set_mesh(mesh):
        program.step.trace(*arguments).lower().compile()
    assert [file.name for file in tmp_path.glob("*jit_step*after_optimizations.txt")]
    with pytest.raises(ConfigError, match="xla_foo"):
        step_of(Run(dataclasses.replace(config, compiler_options={"xla_foo": 1}), None), "codec.text", mesh, 2)
