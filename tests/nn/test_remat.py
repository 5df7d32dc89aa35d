"""Rematerialization: what is kept for the backward pass, and that it changes no number."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.codi import CoDi, CoDiConfig
from codi_jax.config import ConfigError, from_dict, to_dict
from codi_jax.nn import Denoiser
from codi_jax.nn.compute import Compute
from codi_jax.nn.remat import offloaded
from codi_jax.parallel.flops import count
from codi_jax.presets import demo
from tests.nn import toy

Z, ENVIRONMENT = toy.normal(2, *toy.LATENTS["sequence"]), toy.tokens(4, 3, toy.E)
POLICIES = ("blocks", "dots", "offload", ("attention", "feed_forward"))


def loss_of(remat):
    denoiser = Denoiser(dataclasses.replace(toy.SEQUENCE, **toy.ONE_LEVEL), toy.E, Compute(remat=remat))

    def loss(params):
        predict = offloaded(lambda p: denoiser.apply({"params": p}, Z, toy.T, toy.CONTEXT, ENVIRONMENT), remat)
        return jnp.square(predict(params)).mean()

    return denoiser, loss


def kept(loss, params):
    """Bytes of residuals, without parameters."""
    sizes = [x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(lambda p: jax.vjp(loss, p)[1], params))]
    return sum(sizes)


@pytest.fixture(scope="module")
def plain():
    denoiser, loss = loss_of("none")
    params = toy.init(denoiser, Z, toy.T, toy.CONTEXT, ENVIRONMENT)
    return params, loss, toy.quick(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize(
    "remat", [pytest.param(p, marks=[pytest.mark.slow] * (p != "blocks")) for p in POLICIES], ids=str
)
def test_remat_changes_neither_values_nor_gradients(plain, remat):
    params, _, (value, gradients) = plain
    again, recomputed = toy.quick(jax.value_and_grad(loss_of(remat)[1]))(params)
    np.testing.assert_allclose(value, again, rtol=1e-5)
    scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients))
    assert scale > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * scale), gradients, recomputed)


def test_more_is_computed_again_the_less_is_kept(plain):
    params, loss, _ = plain
    losses = {"none": loss, **{remat: loss_of(remat)[1] for remat in ("dots", "blocks")}}
    flops = {remat: count(jax.make_jaxpr(jax.grad(f))(params)).total for remat, f in losses.items()}
    memory = {remat: kept(f, params) for remat, f in losses.items()}
    assert flops["none"] < flops["dots"] < 1.1 * flops["none"] < 1.25 * flops["none"] < flops["blocks"]
    assert memory["blocks"] < memory["dots"] < memory["none"]


def test_the_config_of_a_model_takes_a_policy_or_names_and_reads_what_was_a_bool():
    config = partial(dataclasses.replace, demo.model())
    for was, remat in ((True, "blocks"), (False, "none")):
        with pytest.warns(FutureWarning, match=f"config.model.remat: {was} is now called '{remat}'"):
            assert from_dict(CoDiConfig, {**to_dict(demo.model()), "remat": was}, "model").remat == remat
    assert CoDi(config(remat=("attention",)))["image"].denoiser.compute.remat == ("attention",)
    with pytest.raises(ConfigError, match=r"no activation is called 'atention'.*did you mean attention"):
        config(remat=("atention",))
    with pytest.raises(ConfigError, match="remat"):
        config(remat="block")
