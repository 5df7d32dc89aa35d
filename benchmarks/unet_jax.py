"""Our side of `benchmarks.unet`."""

import dataclasses
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.unet_cases import GUIDANCE, Case, Options, make_inputs
from benchmarks.workers import best_seconds
from codi_jax.codi import CoDi
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.interop.families import read, recognise
from codi_jax.interop.tensors import open_state
from codi_jax.nn.calls import apply
from codi_jax.nn.compute import Compute
from codi_jax.nn.unet import UNet
from codi_jax.parallel.flops import count
from codi_jax.parallel.host import keep_freed_memory
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.types import Array, Tokens


def model(options: Options) -> CoDi:
    """The preset `codi` with images alone and without temporal layers."""
    dtype = "bfloat16" if options.dtype == "bfloat16" else "float32"
    config = CoDi.from_preset(
        "codi", modalities="image", size=options.pixels, dtype=dtype, tokenizers="digit_world"
    ).config
    image = config.modalities["image"]
    denoiser = dataclasses.replace(image.denoiser, temporal=False, **options.network)
    environment = dataclasses.replace(image.environment, temporal=False)
    image = dataclasses.replace(image, denoiser=denoiser, environment=environment)
    return CoDi(dataclasses.replace(config, modalities={"image": image}, width=options.context_width))


class Ours:
    """The U-Net of codi_jax with the weights of the file."""

    def __init__(self, options: Options):
        if options.keep_freed_memory:
            keep_freed_memory()
        self._options, self._codi = options, model(options)
        self._denoiser = self._codi["image"].denoiser_config
        self._net = UNet(self._denoiser, Compute(jnp.dtype(options.dtype)))
        examples = (jnp.zeros((1, 8, 8, 4)), jnp.zeros(1), Tokens.of(jnp.zeros((1, 1, options.context_width))))
        shapes = jax.eval_shape(lambda: self._net.init(jax.random.key(0), *examples))["params"]
        self._params = jax.device_put(self._read(shapes))
        jax.block_until_ready(self._params)
        self._programs: dict[tuple[Case, bool], Callable[[], Any]] = {}

    def _read(self, shapes: Any) -> Any:
        weights = open_state(self._options.weights)
        found, _ = read(recognise(weights), weights, {"vision_unet": self._denoiser}, {"vision_unet": shapes})
        return found["vision_unet"].tree

    @cached_property
    def _cast(self) -> Any:
        dtype = jnp.dtype(self._options.dtype)
        return jax.tree.map(lambda x: x.astype(dtype), self._params)

    def describe(self) -> dict[str, Any]:
        """Number of parameters, and the device."""
        return {
            "parameters": sum(math.prod(x.shape) for x in jax.tree.leaves(self._params)),
            "device": jax.devices()[0].device_kind,
        }

    def _predict(self, params: Any, z: Array, t: Array, context: Array) -> Array:
        return apply(UNet.__call__, self._net, params, z, t, Tokens.of(context))

    def _loss(self, params: Any, z: Array, t: Array, context: Array, noise: Array) -> Array:
        return jnp.mean(jnp.square(self._predict(params, z, t, context) - noise))

    def _program(self, case: Case) -> Callable[[], Any]:
        inputs = jax.device_put(make_inputs_tree(self._options, case))
        if case.measure == "forward":
            forward = jax.jit(self._predict)
            return lambda: forward(self._cast, inputs["z"], inputs["t"], inputs["context"])
        if case.measure == "gradient":
            gradient = jax.jit(jax.value_and_grad(self._loss))
            arguments = [inputs[name] for name in ("z", "t", "context", "noise")]
            return lambda: gradient(self._params, *arguments)
        guidance = {"image": ClassifierFreeGuidance(prompt=GUIDANCE)}
        generator = Generator(self._codi, GenerateConfig(guidance=guidance, steps=case.steps, sampler="ddim"))
        key = jax.random.key(0)

        def sample() -> Any:
            variables = {"params": {"vision_unet": self._cast}, "constants": {}}
            prompts, null, noise = ({"image": inputs[name]} for name in ("context", "null", "z"))
            return generator.latents(variables, ("image",), prompts, case.batch, key, noise=noise, null=null)["image"]

        return sample

    def run(self, case: Case, compiled: bool = True) -> Any:
        """Runs a case to its end; the first time it is compiled."""
        assert compiled, "jax compiles always"
        if (case, compiled) not in self._programs:
            self._programs[case, compiled] = self._program(case)
        return jax.block_until_ready(self._programs[case, compiled]())

    def values(self, case: Case) -> dict[str, np.ndarray]:
        """What is to be equal: the prediction or the sample, [B, H, W, 4]; or the loss, the norm of the gradient and
        the gradient of the first convolution, through which all of the backward pass has gone."""
        result = self.run(case)
        if case.measure != "gradient":
            return {"output": np.asarray(result, np.float32)}
        loss, gradients = result
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(gradients)))
        first = np.asarray(gradients["inputs_0"]["stem"]["kernel"], np.float32).transpose(3, 2, 0, 1)
        return {"loss": np.asarray(loss), "norm": np.asarray(norm), "first": first}

    def flops(self, case: Case) -> float:
        """Operations of the case, counted on the traced program; of sampling, steps times a prediction of 2B."""
        twice = 2 if case.measure == "sampling" else 1
        inputs = make_inputs_tree(self._options, dataclasses.replace(case, batch=twice * case.batch))
        arguments = [inputs[name] for name in ("z", "t", "context")]
        if case.measure == "gradient":
            traced = jax.jit(jax.grad(self._loss)).trace(self._params, *arguments, inputs["noise"])
        else:
            traced = jax.jit(self._predict).trace(self._params, *arguments)
        return count(traced.jaxpr).total * case.calls

    def matmul_rate(self, size: int, seconds: float) -> float:
        """FLOP/s of a product of two [size, size] matrices in the dtype of computation: the best of some seconds."""
        x, matmul = jnp.full((size, size), 1e-3, jnp.dtype(self._options.dtype)), jax.jit(jnp.matmul)
        return 2 * size**3 / best_seconds(lambda: jax.block_until_ready(matmul(x, x)), seconds)

    def peak_device_bytes(self) -> int:
        """The peak of device memory so far, of an accelerator that tells; otherwise 0."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def make_inputs_tree(options: Options, case: Case) -> dict[str, np.ndarray]:
    """The inputs as a dict, which jax takes for a pytree."""
    return dataclasses.asdict(make_inputs(options, case))
