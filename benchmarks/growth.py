"""How cost grows with the number of modalities, and how the memory of a chip falls with the number of chips.

    python -m benchmarks.growth --json=out/growth.json

**Modalities.** The recipe of `configs/digit_world.py` with two, three and four modalities, traced and not run:

    directions   prompts × outputs, and all sets of outputs that can be generated together, from each set of prompts
    objectives   stages that train
    training     operations of all steps of all stages
    programs     that one sampler compiles on CPU for all sets of outputs: V, and a step for each set of branches
    sampling     operations of a sampling step of all outputs, with guidance; `over alone` over the sum of those of each
                 output alone

With M modalities there are M² directions and (2^M − 1)² combinations; the columns after them should grow by one share a
modality (`share`: the value over that of two modalities, divided by M / 2). Training and sampling of a modality cost
what its networks do: a video costs more than the others together, so that their shares are not 1.

**Chips.** The step of a stage of a small model, compiled for 8 and 256 virtual chips (fsdp 8 and 256), one row of the
batch on each. Its denoiser has 256 channels, so that all of its kernels can be split. The state of a chip is
a + b / chips, with what is sharded in b; 512 chips are extrapolated from the two. Temporaries hold what is computed for
one row, and weights while they are gathered, so that they do not fall.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.compile import random_like
from benchmarks.guidance import operations
from benchmarks.results import machine, write
from codi_jax.codi import CoDi
from codi_jax.parallel import make_mesh
from codi_jax.parallel.flops import count
from codi_jax.parallel.mesh import MeshConfig
from codi_jax.parallel.tables import size, table
from codi_jax.plan.shapes import step_of
from codi_jax.presets.digit_world.recipe import run as recipe
from codi_jax.sampling.config import GenerateConfig
from codi_jax.sampling.generator import Generator
from codi_jax.train.recipe import Run

SETS = ("text+image", "text+image+audio", "text+image+audio+video")
CHIPS = (8, 256)
STAGE, CHANNELS = "ldm.image", 256


def modalities(names: str) -> dict[str, Any]:
    """The row of a set of modalities."""
    config = recipe(modalities=names)
    work, mesh = Run(config, None), make_mesh(MeshConfig(data=1), jax.devices()[:1])
    training, objectives = 0.0, 0
    for name in work.order:
        stage = work.stage(name)
        if stage.trains:
            with jax.set_mesh(mesh):
                program, arguments = step_of(work, name, mesh, stage.batch_size)
                training += stage.steps * count(program.step.trace(*arguments).jaxpr).total
            objectives += 1
    codi = CoDi(config.model)
    m = len(codi.modalities)
    return {
        "modalities": m,
        "directions": m * m,
        "combinations": (2**m - 1) ** 2,
        "objectives": objectives,
        "training": training,
        "programs": programs(names),
        "sampling": sampling(codi, config.generate, codi.modalities),
        "alone": sum(sampling(codi, config.generate, (name,)) for name in codi.modalities),
    }


def programs(names: str) -> int:
    """The programs that one sampler of a tiny model compiles for all sets of outputs, alone and together."""
    config = recipe(modalities=names, tiny=True)
    codi, key = CoDi(config.model), jax.random.key(0)
    generator = Generator(codi, config.generate)
    rng = np.random.default_rng(0)
    params = {name: jax.tree.map(lambda x: random_like(x, rng), codi.shapes(name)) for name in codi.component_names()}
    variables = {"params": params, "constants": codi.default_constants()}
    prompt = {"text": jax.numpy.ones((1, codi.config.width))}
    for chosen in range(1, 2 ** len(codi.modalities)):
        outputs = tuple(name for i, name in enumerate(codi.modalities) if chosen >> i & 1)
        generator.latents(variables, outputs, prompt, 1, key)
    return generator.compiled_programs()


def sampling(codi: CoDi, config: GenerateConfig, outputs: Iterable[str]) -> float:
    """Operations of a sampling step of some outputs, with a text prompt."""
    return operations(codi, config, {name: config.guidance[name] for name in outputs}) / config.steps


def bytes_of_chip(chips: int, batch: int) -> dict[str, Any]:
    """The row of `codi-jax plan` for virtual devices, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "plan.json")
        command = [sys.executable, "-m", "codi_jax.cli", "plan", "--config=demo:tiny", f"--stage={STAGE}"]
        command += [f"--devices={chips}", f"--mesh=data=1,fsdp={chips}", f"--batch={batch}", f"--json={file}"]
        command += ["--config.sharding.fsdp_min_bytes=1024", "--config.sharding.min_sharded_fraction=0"]
        command += [f"--config.model.modalities.image.denoiser.channels={CHANNELS}"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise SystemExit(result.stdout + result.stderr)
        return json.loads(file.read_text())[0]


def growth_table(rows: list[dict[str, Any]]) -> str:
    """The rows of modalities, each number beside its share."""
    first, columns = rows[0], ("objectives", "training", "programs", "sampling")
    head = (part for name in columns for part in (name, "share"))
    lines: list[tuple[str, ...]] = [("modalities", "directions", "combinations", *head, "over alone")]
    for row in rows:
        more = row["modalities"] / first["modalities"]
        cells = [str(row[name]) for name in ("modalities", "directions", "combinations")]
        for name in columns:
            value = row[name]
            cells += [_operations(value), f"{value / first[name] / more:.2f}"]
        lines.append((*cells, f"{row['sampling'] / row['alone']:.2f}"))
    return table(lines, right=range(len(lines[0])))


def _operations(value: float) -> str:
    unit, name = next(((unit, name) for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if value >= unit), (1, ""))
    return f"{value / unit:.3g} {name}".rstrip()


def extrapolated(rows: list[dict[str, Any]], chips: int) -> float:
    """a + b / chips through the arguments of two rows."""
    few, many = rows
    b = (few["hbm"]["arguments"] - many["hbm"]["arguments"]) / (1 / few["chips"] - 1 / many["chips"])
    return many["hbm"]["arguments"] + b * (1 / chips - 1 / many["chips"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    before = machine()
    rows = []
    for names in SETS:
        rows.append(modalities(names))
        print(f"{names}: {rows[-1]}", file=sys.stderr, flush=True)
    print(growth_table(rows))
    planned = [bytes_of_chip(chips, chips) for chips in CHIPS]
    lines = [("chips", "arguments", "temporaries", "")]
    for row in planned:
        lines.append((str(row["chips"]), size(row["hbm"]["arguments"]), size(row["hbm"]["temporaries"]), "compiled"))
    lines.append(("512", size(extrapolated(planned, 512)), "", "extrapolated"))
    print(f"\n{STAGE} of demo with a denoiser of {CHANNELS} channels\n{table(lines, right=(0, 1, 2))}")
    write(args.json, before, rows, chips=planned)


if __name__ == "__main__":
    main()
