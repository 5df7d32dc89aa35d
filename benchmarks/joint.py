"""Video and audio generated together, beside the sum of the two generated alone: steps a second and operations.

    python -m benchmarks.joint --json=out/joint.json                       the packaged model
    python -m benchmarks.joint --preset=codi --divide=4 --size=64          the paper's model, random weights, a quarter
                                                                           of its widths

In joint generation the outputs attend to each other in every step: V encodes each latent, and X attends to the others'
tokens on the branch of guidance that reads them. With equal scales for prompt and environment, as by default, there
are two branches, as for an output alone, and with equal sizes

    operations (joint) / operations (alone, summed) = (2 ε + X + V) / 2 ε

but for what the branches share. With other scales a third branch has the prompt and no environment. The table has both
ratios, of operations and of seconds; those of a step are of one sampling step of all outputs, medians of calls
in turns. A second table has the operations of one call of ε, X and V for each output.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.compile import random_like
from benchmarks.results import machine, median, number, summary, verdict, warn_of_load, write
from benchmarks.workers import Timing, measure_call, take_turns
from codi_jax.codi import CoDi
from codi_jax.config import ConfigError, from_dict
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.parallel.flops import count
from codi_jax.parallel.host import keep_freed_memory
from codi_jax.parallel.tables import table
from codi_jax.presets.codi import MODALITIES
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.types import Array, Tokens

GOAL = 1.05


def packaged(name: str) -> tuple[CoDi, dict[str, Any], GenerateConfig]:
    """A packaged model, its variables and its settings of sampling."""
    package = open_package(name)
    variables = package.read("model", None, package.codi.config.dtype)
    return package.codi, variables, from_dict(GenerateConfig, package.run["generate"], "generate")


def from_preset(name: str, outputs: Sequence[str], divide: int, **options: Any) -> tuple[CoDi, Any, GenerateConfig]:
    """A preset with random weights, its U-Nets and environment encoders with widths divided by a number.

    The base width of a network stays a multiple of its heads, and of its groups times 2, since an environment encoder
    begins with half of it.
    """
    config = CoDi.from_preset(
        name, modalities=tuple(m for m in MODALITIES if m in ("text", *outputs)), **options
    ).config

    def narrow(network: Any) -> Any:
        groups = max(network.groups // divide, 1)
        multiple = math.lcm(2 * groups, getattr(network, "heads", 1))
        return dataclasses.replace(
            network, groups=groups, channels=max(network.channels // divide // multiple, 1) * multiple
        )

    narrowed = {
        name: dataclasses.replace(m, denoiser=narrow(m.denoiser), environment=narrow(m.environment))
        for name, m in config.modalities.items()
    }
    codi = CoDi(dataclasses.replace(config, modalities=narrowed))
    components = Generator(codi, GenerateConfig(guidance={})).components(tuple(outputs), (), ())[1]
    rng = np.random.default_rng(0)
    params = {c: jax.tree.map(lambda x: random_like(x, rng), codi.shapes(c)) for c in components}
    return codi, {"params": params, "constants": codi.default_constants()}, GenerateConfig(guidance={})


class Sampling:
    """Sampling of some outputs from random prompts and fixed noise."""

    def __init__(self, codi: CoDi, variables: Any, config: GenerateConfig, outputs: tuple[str, ...], batch: int):
        self._codi, self._variables, self._config, self._outputs = codi, variables, config, outputs
        self._batch, self._generator = batch, Generator(codi, config)
        rng = np.random.default_rng(0)
        shape = (batch, codi.config.width)
        self._prompts = [{"text": jnp.asarray(rng.standard_normal(shape), jnp.float32)} for _ in range(2)]

    def _sample(self, generator: Generator, variables: Any, prompt: Any, null: Any) -> dict[str, Array]:
        return generator.latents(variables, self._outputs, prompt, self._batch, jax.random.key(0), null=null)

    def run(self) -> dict[str, Array]:
        """Latents by output."""
        return jax.block_until_ready(self._sample(self._generator, self._variables, *self._prompts))

    def flops(self) -> float:
        """Operations of all steps, counted on the program of the whole sampler."""
        generator = self._generator.with_config(dataclasses.replace(self._config, loop="scan"))
        traced = jax.jit(partial(self._sample, generator)).trace(self._variables, *self._prompts)
        return count(traced.jaxpr).total


def parts(codi: CoDi, variables: Any, outputs: Sequence[str], batch: int) -> list[dict[str, Any]]:
    """For each output, the operations of one call of its denoiser, of X in it, and of V."""
    rows = []
    for name in outputs:
        modality = codi[name]
        z, t = jnp.zeros((batch, *modality.latent_shape)), jnp.zeros(batch)
        context = Tokens.of(jnp.zeros((batch, 1, codi.config.width)))
        tokens = Tokens.of(codi.zero_environment_tokens(name, batch))
        alone, joint, environment = (
            count(jax.jit(function).trace(*arguments).jaxpr).total
            for function, arguments in (
                (modality.denoise, (variables, z, t, context)),
                (modality.denoise, (variables, z, t, context, tokens)),
                (modality.environment_tokens, (variables, z, t)),
            )
        )
        rows.append({"output": name, "denoiser": alone, "cross": joint - alone, "environment": environment})
    return rows


def measure(samplings: dict[str, Sampling], steps: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each sampling: seconds of a step, of the first call, operations of a step."""
    first: dict[str, Timing] = {}
    for name, sampling in samplings.items():
        values, first[name] = measure_call(sampling.run)
        if not all(np.isfinite(np.asarray(x)).all() for x in values.values()):
            sys.exit(f"benchmarks.joint: {name}: latents are not finite")
    calls = {name: lambda s=sampling: measure_call(s.run)[1] for name, sampling in samplings.items()}
    timings = take_turns(calls, repeats)
    return [
        {
            "outputs": name,
            "step_s": median(values) / steps,
            "compile_s": first[name].seconds - median(values),
            "flops_of_a_step": samplings[name].flops() / steps,
            **summary(values),
        }
        for name, values in timings.items()
    ]


def parts_table(rows: list[dict[str, Any]]) -> str:
    """The rows of `parts`."""
    lines = [("GFLOP of a call", "ε", "X", "V")]
    for row in rows:
        denoiser, cross, environment = (f"{row[key] / 1e9:.3f}" for key in ("denoiser", "cross", "environment"))
        lines.append((row["output"], denoiser, cross, environment))
    return table(lines, right=range(1, 4))


def to_table(rows: list[dict[str, Any]]) -> str:
    """The rows, and the ratios of the last, joint one to the sum of the others."""
    lines = [("outputs", "steps/s", "ms of a step", "GFLOP of a step", "GFLOP/s", "compile s")]
    alone, together = rows[:-1], rows[-1]
    total = {key: sum(row[key] for row in alone) for key in ("step_s", "flops_of_a_step", "compile_s")}
    for row in (*alone, {"outputs": "sum of these", **total}, together):
        seconds, flops = row["step_s"], row["flops_of_a_step"]
        rate = f"{flops / seconds / 1e9:.1f}"
        lines.append(
            (row["outputs"], number(1 / seconds), number(1e3 * seconds), number(flops / 1e9, "{:.3f}"), rate,
             number(row["compile_s"], "{:.1f}"))
        )  # fmt: skip
    seconds, flops = (together[key] / total[key] for key in ("step_s", "flops_of_a_step"))
    lines.append(("ratio", number(total["step_s"] / together["step_s"]), number(seconds), number(flops), "", ""))
    return f"{table(lines, right=range(1, 6))}\ntogether over the sum {verdict(seconds, GOAL, at_most=True)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT, help=f"a packaged model, or a folder of one ({DEFAULT})")
    parser.add_argument("--preset", choices=("codi",), help="this preset with random weights instead")
    parser.add_argument("--divide", type=int, default=4, help="divides the widths of a preset's networks (4)")
    parser.add_argument("--size", type=int, default=64, help="pixels of images and frames of a preset (64)")
    parser.add_argument("--frames", type=int, default=4, help="frames of a video of a preset (4)")
    parser.add_argument("--dtype", default="float32", help="of computation, of a preset (float32)")
    parser.add_argument("--outputs", default="audio,video", help="joined by commas (audio,video)")
    parser.add_argument("--batch", type=int, default=1, help="number of samples (1)")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (20)")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each, after a first one (7)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    warn_of_load(before := machine())
    keep_freed_memory()
    names = args.outputs.split(",")
    if args.preset:
        options = {"size": args.size, "frames": args.frames, "dtype": args.dtype, "tokenizers": "digit_world"}
        codi, variables, config = from_preset(args.preset, names, args.divide, **options)
    else:
        codi, variables, config = packaged(args.model)
    config, outputs = dataclasses.replace(config, steps=args.steps), codi.order(names)
    chosen = {name: (name,) for name in outputs} | {"+".join(outputs): outputs}
    samplings = {name: Sampling(codi, variables, config, each, args.batch) for name, each in chosen.items()}
    rows = measure(samplings, args.steps, args.repeats)
    calls = parts(codi, variables, outputs, args.batch)
    write(args.json, before, rows, options={**vars(args), "json": str(args.json)}, calls=calls)
    print(f"{to_table(rows)}\n\n{parts_table(calls)}")


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"benchmarks.joint: {error}")
