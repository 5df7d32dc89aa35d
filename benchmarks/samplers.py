"""Which sampler for how many network calls: digit accuracy and error of generated images, text to image.

    python -m benchmarks.samplers --n=64 --json=out/samplers.json

The packaged model generates images from the captions of real test samples with every sampler and spacing and equal
numbers of network calls (`heun` makes two a step, but one in the last). Noise is that of one seed for each sample, the
same in every row.

    accuracy   fraction of images whose digit the packaged judge reads as the one of the caption
    error      root mean square difference of the latents to the solution of the ODE, in standard deviations of the
               data, for samplers without noise. The solution is that of `dpmpp_2m` with 300 steps and `log_snr`; that
               of `karras`, and of `heun` with as many, differ from it by less than 0.003.

The spacing of the release is left out, since it has few numbers of steps. Takes about two minutes of one core.
"""

from typing import Any

import numpy as np

import codi_jax
from benchmarks import of_model
from codi_jax.data.source import make_source, read_batch
from codi_jax.diffusion.samplers import SAMPLERS, network_calls, timesteps
from codi_jax.digit_world import LEADING
from codi_jax.digit_world.judges.readers import make_readers
from codi_jax.metrics.agreement import agreement
from codi_jax.metrics.intervals import wilson
from codi_jax.packaged import open_package
from codi_jax.parallel.tables import table

CALLS = (3, 5, 9, 19)  # odd, so that `heun` can make as many
SPACINGS = ("trailing", "karras", "log_snr")
SOLUTION = {"sampler": "dpmpp_2m", "steps": 300, "spacing": "log_snr"}


def measure(name: str, n: int, calls: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each sampler, spacing and number of network calls."""
    package, pipe = open_package(name), codi_jax.load(name)
    read = make_readers(package.codi, package, n)["image"]
    source = make_source(package.run["sources"][package.run["evaluate"]["seen"]])
    rows = read_batch(source, range(n))
    prompts, truth = list(package.codi["text"].raw_from_batch(rows)), np.asarray(rows["factors"][LEADING])

    def latents(**options: Any) -> np.ndarray:
        out = pipe({"text": prompts}, "image", seed=list(range(n)), eta=0.0, decode=False, **options)
        return np.asarray(out.latents["image"])

    exact, out = latents(**SOLUTION), []
    for sampler in SAMPLERS:
        evaluations = SAMPLERS[sampler].evaluations
        for spacing in SPACINGS:
            for budget in calls:
                steps = (budget + evaluations - 1) // evaluations  # the last step has one call
                pairs = timesteps(package.codi.schedule, steps, spacing)
                z = latents(sampler=sampler, spacing=spacing, steps=steps)
                values = pipe.codi["image"]
                digits = read([values.raw_from_user(x) for x in pipe.decode({"image": z}).image]).factors[LEADING]
                accuracy = agreement((truth, digits))
                noisy = SAMPLERS[sampler].noise == "always"
                out.append(
                    {
                        "sampler": sampler,
                        "spacing": spacing,
                        "steps": steps,
                        "calls": len(network_calls(pairs, evaluations).step),
                        "accuracy": accuracy,
                        "interval": list(wilson(accuracy, n)),
                        "error": None if noisy else float(np.sqrt(np.mean((z - exact) ** 2))),
                    }
                )
                print(" ".join(f"{key}={value}" for key, value in out[-1].items()), flush=True)
    return out


def to_table(rows: list[dict[str, Any]], calls: tuple[int, ...]) -> str:
    """A line for each sampler and spacing, with accuracy and error for each number of calls."""
    lines = [("sampler", "spacing", *(f"{k} calls" for k in calls), *(f"error, {k}" for k in calls))]
    for sampler, spacing in dict.fromkeys((row["sampler"], row["spacing"]) for row in rows):
        cells = {row["calls"]: row for row in rows if (row["sampler"], row["spacing"]) == (sampler, spacing)}
        accuracy = [f"{cells[k]['accuracy']:.3f}" if k in cells else "-" for k in calls]
        error = [f"{cells[k]['error']:.3f}" if k in cells and cells[k]["error"] is not None else "-" for k in calls]
        lines.append((sampler, spacing, *accuracy, *error))
    return table(lines, right=range(2, 2 + 2 * len(calls)))


if __name__ == "__main__":
    of_model.run(__doc__, 64, lambda model, n: measure(model, n, CALLS), lambda rows: to_table(rows, CALLS))
