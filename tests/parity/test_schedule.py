"""The noise schedule, timesteps and forward process against the reference; case 14."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codi_jax.diffusion import process, samplers, schedules
from tests.parity import golden

CASES = golden.cases("14_schedule")


@pytest.fixture(params=CASES, ids=[str(case.path.stem) for case in CASES])
def case(request):
    return request.param


@pytest.fixture
def schedule(case):
    config = case.config
    return schedules.make(
        "scaled_linear",
        steps=config["timesteps"],
        start=config["beta_linear_start"],
        end=config["beta_linear_end"],
    )


def test_golden_files_exist():
    assert CASES, f"no golden file of case 14_schedule in {golden.FOLDER}"


def test_ddpm_buffers(case, schedule):
    buffers = schedules.ddpm_buffers(schedule)
    assert set(buffers) == {name for name in case.outputs() if "/" not in name}
    for name, values in buffers.items():
        assert values.dtype == np.float32
        case.check(name, values)


def test_timesteps_and_coefficients_of_ddim(case, schedule):
    for steps in case.config["S"]:
        pairs = samplers.timesteps(schedule, steps, "release")[::-1]  # ascending in the file
        now, then = schedule.at(pairs[:, 0]), schedule.at(pairs[:, 1])
        case.check(f"ddim{steps}/timesteps", pairs[:, 0])
        case.check(f"ddim{steps}/alphas", now.alpha**2)
        case.check(f"ddim{steps}/alphas_prev", then.alpha**2)
        case.check(f"ddim{steps}/sqrt_one_minus_alphas", now.sigma)


def test_sigmas_of_ddim(case, schedule):
    """With x̂0 = z = 0 a step returns only its noise."""
    for steps in case.config["S"]:
        pairs = samplers.timesteps(schedule, steps, "release")[::-1]
        state = samplers.State(jnp.zeros(len(pairs)), None)
        now, then = schedule.at(pairs[:, 0]), schedule.at(pairs[:, 1])
        one = jnp.ones(len(pairs))
        out = samplers.SAMPLERS["ddim"].step(state, jnp.zeros(len(pairs)), "eps", now, then, case.config["eta"], one)
        case.check(f"ddim{steps}/sigmas", out.z)


def test_forward_process(case, schedule):
    inputs = case.inputs("q")
    z_t = jax.jit(process.corrupt, static_argnums=0)(schedule, inputs["x0"], inputs["t"], inputs["noise"])
    case.check("q/xt", z_t)
