"""Bridging at scale: what the contrastive loss needs on a chip, and the speed of the whole step where it is planned.

    python -m benchmarks.towers --json=out/towers.json               for 8, 64 and 256 virtual CPU devices
    python -m benchmarks.towers --tpu=v5e --json=out/towers.json     for TPU slices of as many chips (extra `plan`)

**The loss** and its gradient on embeddings [B, D] of the global batch, split over all chips, compiled and not run, with
as many rows on each chip however many there are:

    all-gather    every chip gathers the embeddings of all and computes its rows of the matrix [B, B]
    ring          `settings.ring`: blocks [B / n, B / n], one after the other, while embeddings travel

    temporaries   bytes in the memory of a chip, none if a TPU keeps all of them on the chip; those of all-gather grow
                  with the logits, 4 · B² / n bytes, those of the ring do not depend on n
    received      bytes that a chip receives from others
    operations    of a chip; both need 2 · 3 · B² D / n, the ring computes blocks again in the backward pass

**The step**: rows of `codi-jax plan` that are in `docs/plans` (docs/pods.md has the commands).
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks import plans
from benchmarks.results import machine, write
from codi_jax.objectives import bridging, ring
from codi_jax.parallel import MeshConfig, batch_sharding, make_mesh, replicated
from codi_jax.parallel.collectives import collectives
from codi_jax.parallel.flops import count
from codi_jax.parallel.hlo import Program
from codi_jax.parallel.tables import size, table
from codi_jax.plan import target
from codi_jax.plan.target import Target

CHIPS = (8, 64, 256)
ROWS = (32, 512)  # of a chip: global batches of 8,192 and 131,072 on 256 chips
WIDTH = 768
SLICES = {8: "2x4", 64: "8x8", 256: "16x16"}
LOSSES: dict[str, Callable[..., Any]] = {
    "all-gather": bridging.infonce,
    "ring": lambda a, b, scale: ring.infonce(a, b, scale).loss,
}


def compiled(loss: str, where: Target, rows: int) -> dict[str, Any]:
    """The row of a loss on a slice, with a number of embeddings on each chip."""
    grid = make_mesh(MeshConfig(), where.devices)
    batch = rows * len(where.devices)
    embeddings = jax.ShapeDtypeStruct((batch, WIDTH), "float32", sharding=batch_sharding(grid))
    scale = jax.ShapeDtypeStruct((), "float32", sharding=replicated(grid))
    with jax.set_mesh(grid):
        step = jax.jit(jax.value_and_grad(LOSSES[loss], (0, 1, 2)), out_shardings=_like(embeddings, scale))
        traced = step.trace(embeddings, embeddings, scale)
        program = traced.lower(lowering_platforms=(where.platform,)).compile()
    sent, memory = collectives(Program(program.as_text() or "")), program.memory_analysis()
    assert memory is not None, "compiled for TPU or CPU"
    return {
        "loss": loss,
        "slice": where.name,
        "chips": where.chips,
        "batch": batch,
        "temporaries": memory.temp_size_in_bytes,
        "received": sum(traffic.wire for traffic in sent.values()),
        "collectives": {kind: traffic.count for kind, traffic in sent.items()},
        "operations": count(traced.jaxpr).total / where.chips,
    }


def _like(embeddings: jax.ShapeDtypeStruct, scale: jax.ShapeDtypeStruct) -> Any:
    return scale.sharding, (embeddings.sharding, embeddings.sharding, scale.sharding)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tpu", help="a kind of chip whose slices to compile for, instead of virtual CPU devices")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    before, rows = machine(), []
    virtual = None if args.tpu else target.virtual(max(CHIPS))
    lines = [("chips", "global batch", "loss", "temporaries", "of the logits", "received", "GFLOP", "collectives")]
    for chips in CHIPS:
        slice_ = target.tpu(f"{args.tpu}:{SLICES[chips]}") if virtual is None else target.virtual(chips)
        for each in ROWS:
            for loss in LOSSES:
                row = compiled(loss, slice_, each)
                rows.append(row)
                logits = 4 * row["batch"] ** 2 / chips
                lines.append(
                    (
                        *(f"{chips}", f"{row['batch']:,}", loss, size(row["temporaries"])),
                        *(size(math.ceil(logits)), size(row["received"]), f"{row['operations'] / 1e9:.3g}"),
                        ", ".join(f"{n} {kind}" for kind, n in row["collectives"].items()),
                    )
                )
                write(args.json, before, rows)
    print(f"InfoNCE of [B, {WIDTH}] and its gradient, a chip\n{table(lines, right=(0, 1, 3, 4, 5, 6))}")
    planned = [row for row in plans.rows() if row["stage"].startswith("bridging.") and row["fits"]]
    head = ("stage", "slice", "global batch", "remat", "peak of a chip", "bound", "samples a second and chip", "MFU ≤")
    cells = [
        (
            *(row["stage"], row["topology"], f"{row['batch_size']:,}", str(row["remat"]), size(row["hbm"]["peak"])),
            f"{1e3 * row['bound_seconds']:.0f} ms",
            f"{row['samples_per_chip_hour'] / 3600:.1f}",
            f"{row['mfu_bound']:.0%}",
        )
        for row in planned
    ]
    print(f"\nthe step, planned at its bound\n{table([head, *cells], right=(2, 4, 5, 6, 7))}")
    write(args.json, before, rows, steps=planned)


if __name__ == "__main__":
    main()
