"""Operations of sampling with the packaged model's settings, and how many of them the interval of guidance saves.

    python -m benchmarks.guidance

Counted on the traced programs (`codi_jax.parallel.flops`); nothing is computed, and no weights are read. The scales of
`always` are those of the settings, but apply at all timesteps: low = 0, high = 1.
"""

import dataclasses
from collections.abc import Mapping

import jax

from codi_jax.codi import CoDi
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.parallel.flops import count
from codi_jax.parallel.tables import table
from codi_jax.presets.digit_world.recipe import run
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator


def operations(codi: CoDi, config: GenerateConfig, guidance: Mapping[str, ClassifierFreeGuidance]) -> float:
    """Operations of one sample of all outputs of `guidance`, with a text prompt."""
    generator = Generator(codi, dataclasses.replace(config, loop="scan"))
    variables = {"params": {name: codi.shapes(name) for name in codi.component_names()}, "constants": {}}
    prompt = jax.ShapeDtypeStruct((1, codi.config.width), "float32")

    def sample(variables, prompt):
        return generator.latents(variables, tuple(guidance), {"text": prompt}, 1, jax.random.key(0), None, guidance)

    return count(jax.jit(sample).trace(variables, prompt).jaxpr).total


def main() -> None:
    settings = run()
    codi, guidance = CoDi(settings.model), settings.generate.guidance
    lines = [("outputs", "operations", "always", "saved")]
    for outputs in (*((name,) for name in guidance), ("text", "image"), tuple(guidance)):
        own = {name: guidance[name] for name in outputs}
        always = {name: dataclasses.replace(rule, low=0.0, high=1.0) for name, rule in own.items()}
        few, all_steps = (operations(codi, settings.generate, rules) for rules in (own, always))
        lines.append(
            (" ".join(outputs), f"{few / 1e9:.2f} G", f"{all_steps / 1e9:.2f} G", f"{1 - few / all_steps:.1%}")
        )
    print(table(lines, right=range(1, 4)))


if __name__ == "__main__":
    main()
