"""The arguments of a planned step equal those that the loop passes to it."""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from codi_jax.config import ConfigError
from codi_jax.data.arrays import Arrays
from codi_jax.data.source import make_source, read_batch
from codi_jax.objectives import conditioning
from codi_jax.parallel import make_mesh, paths, place_batch
from codi_jax.parallel.mesh import AXES
from codi_jax.plan.shapes import bytes_per_device, step_of
from codi_jax.train.encoded import EncodedSamples
from codi_jax.train.program import objective_of
from codi_jax.train.recipe import open_run
from codi_jax.train.stage import Stage
from configs import codi as public
from tests import toy


def kinds(tree):
    """Shape and dtype of every leaf by path, as on the device."""
    return {p: (tuple(x.shape), jax.dtypes.canonicalize_dtype(x.dtype)) for p, x in paths.flatten(tree).items()}


@pytest.mark.parametrize(
    "config",
    [toy.recipe(toy.EVERYTHING), public.get_config("tokenizers=digit_world")],
    ids=["small", "public"],
)
def test_an_example_has_the_shapes_of_a_batch(config):
    run = open_run(config, None)
    seen = set()
    for name in run.order:
        stage = run.stage(name)
        kind = stage.modalities, stage.objective, stage.source
        if not stage.trains or stage.source not in run.config.sources or kind in seen:
            continue
        seen.add(kind)
        objective = objective_of(run, name)
        samples = read_batch(make_source(run.config.sources[stage.source]), range(2))
        example = jax.eval_shape(lambda objective=objective: objective.example(2))
        assert kinds(objective.batch(samples)) == kinds(example), name
    assert len(seen) >= 6


def test_an_example_of_an_encoded_batch_has_the_shapes_that_encode_gives():
    run = open_run(toy.recipe(toy.EVERYTHING) | {"model": toy.model(toy.EVERYTHING)}, None)
    variables = {"params": toy.shapes(run.codi), "constants": run.codi.default_constants()}
    media = {m: jax.eval_shape(lambda m=m: run.codi[m].example(2)) for m in toy.EVERYTHING}
    encoded = jax.eval_shape(lambda v, b: conditioning.encode(run.codi, v, b), variables, media)
    arrays = {
        m: {k: np.zeros(x.shape, x.dtype) for k, x in vars(e).items() if x is not None} for m, e in encoded.items()
    }
    samples = EncodedSamples([(Arrays(arrays), {})], True).read([0, 1])
    concatenated = {m: conditioning.Encoded(**leaves) for m, leaves in samples.items()}
    tested = set()
    for name in (n for n in run.order if run.stage(n).objective in ("ldm", "latent_alignment")):
        stage, objective = run.stage(name), objective_of(run, name)
        expected = encoded if isinstance(stage.source, str) else concatenated
        example = jax.eval_shape(lambda objective=objective: objective.example(2))
        assert kinds(example) == kinds({m: expected[m] for m in stage.modalities}), name
        tested.add(expected is concatenated)
    assert tested == {True, False}


def test_the_step_and_its_arguments_equal_those_of_the_loop(tmp_path):
    config = toy.config()
    with config.unlocked():
        config.mesh, config.sharding = {"data": 2, "fsdp": 4}, {"fsdp_min_bytes": 256}
    run = open_run(config, tmp_path)
    stage = Stage(run, "codec.text")
    with jax.set_mesh(stage.mesh):
        stage.prepare()
    batches = stage.batches(0)
    real = (stage.state, stage.frozen, stage.constants, place_batch(next(batches), stage.mesh), stage.key)
    batches.close()
    program, planned = step_of(run, "codec.text", make_mesh(run.config.mesh), stage.config.batch_size)
    assert jax.tree.structure(planned) == jax.tree.structure(real)
    for (path, want), have in zip(jax.tree.leaves_with_path(real), jax.tree.leaves(planned), strict=True):
        assert (want.shape, want.dtype) == (have.shape, have.dtype), path
        if have.sharding is not None:
            assert want.sharding.is_equivalent_to(have.sharding, want.ndim), path
    with jax.set_mesh(stage.mesh):
        assert program.step.lower(*planned).as_text() == stage.step.lower(*real).as_text()
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(real[:-1]))
    assert bytes_per_device(planned) == held
    # An abstract mesh, without devices, gives the same.
    described = AbstractMesh((2, 4, 1, 1), AXES)
    assert bytes_per_device(step_of(run, "codec.text", described, stage.config.batch_size)[1]) == held


def test_encode_stages_and_uneven_batches_are_refused():
    run = open_run(toy.recipe(), None)
    mesh = make_mesh(run.config.mesh)
    encodes = next(name for name in run.order if run.stage(name).objective == "encode")
    with pytest.raises(ConfigError, match="is an encode stage: it has no training step"):
        step_of(run, encodes, mesh, 8)
    with pytest.raises(ConfigError, match="a batch of 12 cannot be split over 8 devices"):
        step_of(run, "codec.text", mesh, 12)
