"""Optimus against the reference (case 11): the encoder's posterior, teacher-forced logits, greedy generation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.encoders.optimus import Optimus
from codi_jax.interop import optimus as interop
from codi_jax.interop.names import from_release, under
from tests.parity.golden import Case, cases, check_weights_return

CASES = pytest.mark.parametrize("case", cases("11"), ids=lambda c: c.path.stem)


def load(case: Case) -> tuple[Optimus, dict, dict]:
    """The model, its parameters and the reference's weights without their prefix."""
    c = case.config
    sizes = c["encoder"]["config"], c["decoder"]["config"]
    model = Optimus(interop.config(*sizes, c["encoder"]["latent_size"], c["bos"], c["eos"], pad=0))
    ids = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    target = jax.eval_shape(model.init, jax.random.key(0), ids, ids)["params"]
    weights = under(case.weights(), "optimus.")
    return model, from_release(weights, interop.RULES, target, interop.IGNORE), weights


def run(model: Optimus, params: dict, *args, method):
    with jax.default_matmul_precision("highest"):
        return jax.jit(lambda params, *args: model.apply({"params": params}, *args, method=method))(params, *args)


@CASES
def test_encoder(case):
    model, params, _ = load(case)
    ids = case.inputs()["bert_ids"]
    mean, logvar = run(model, params, ids, method="encode")
    case.check("mu", mean)
    case.check("logvar", logvar)
    case.check("z_scaled", mean * case.config["text_scale_factor"])
    case.check("pooled", run(model, params, ids, method=lambda m, ids: m.encoder(ids)))


@CASES
def test_teacher_forced_logits(case):
    model, params, _ = load(case)
    z = case.inputs()["z_scaled_in"] / case.config["text_scale_factor"]
    case.check("logits", run(model, params, z, case.inputs()["gpt2_ids"], method="decode_logits"))


@CASES
def test_greedy_generation(case):
    model, params, _ = load(case)
    config = case.config
    z, key = case.inputs()["z_scaled_in"] / config["text_scale_factor"], jax.random.key(0)

    def generate(model):
        return np.asarray(
            run(model, params, z, method=lambda m, z: m.generate(z, key, 0.0, max_length=config["max_length"]))
        )

    ids = generate(model)
    for sample, row in enumerate(ids):
        want = case.arrays[f"out/greedy_ids_{sample}"]
        np.testing.assert_array_equal(row[: len(want)], want)
        assert (row[len(want) :] == model.config.pad).all()

    logits = np.asarray(run(model, params, z, ids, method="decode_logits"))
    for sample, row in enumerate(logits):
        top = np.sort(row, axis=-1)[: len(case.arrays[f"out/greedy_margins_{sample}"])]
        case.check(f"greedy_margins_{sample}", top[:, -1] - top[:, -2])

    sample, eos = config["early_stop"]
    early = generate(Optimus(dataclasses.replace(model.config, eos=eos)))[sample]
    want = case.arrays["out/greedy_early_ids"]
    np.testing.assert_array_equal(early[: len(want)], want)
    assert (early[len(want) :] == model.config.pad).all()


@CASES
def test_weights_convert_back_exactly(case):
    _, params, weights = load(case)
    check_weights_return(params, weights, interop.RULES, interop.IGNORE)
