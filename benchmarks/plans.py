"""The plans of the paper's training that are in `docs/plans`, as the tables of docs/pods.md.

    python -m benchmarks.plans            writes the tables into docs/pods.md and prints them

A row is made by

    codi-jax plan --config=codi:tokenizers=digit_world --stage=STAGE --topology=SLICE --batch=BATCH \
        --config.model.remat=REMAT --json=docs/plans/STAGE-SLICE.json

which compiles for five to forty minutes.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codi_jax.parallel.tables import size

DOCS = Path(__file__).parents[1] / "docs"
PLANS, PAGE = DOCS / "plans", DOCS / "pods.md"
START, END = "<!-- plans -->", "<!-- end of plans -->"
RESOURCES: tuple[str, ...] = ("compute", "memory", "interconnect")


def rows(folder: Path = PLANS) -> list[dict[str, Any]]:
    """All rows, by slice, and by stage in the order of training."""
    found = [row for file in sorted(folder.glob("*.json")) for row in json.loads(file.read_text())]
    groups = ("bridging", "ldm", "joint")
    return sorted(found, key=lambda row: (row["topology"], groups.index(row["stage"].split(".")[0]), row["stage"]))


def _markdown(lines: list[tuple[str, ...]]) -> str:
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join((head, "|---" * len(lines[0]) + "|", *body))


def bounds(found: Iterable[dict[str, Any]]) -> str:
    """Memory, seconds of each resource, and cost of the stages of one slice."""
    lines: list[tuple[str, ...]] = [
        (
            "stage",
            "batch of a chip, remat",
            "peak",
            *RESOURCES,
            "MFU ≤",
            "samples a second and chip",
            "chip-hours",
            "days",
        )
    ]
    hours = days = 0.0
    for row in found:
        milliseconds = {name: f"{1e3 * row['seconds'][name]:.1f} ms" for name in RESOURCES}
        longest = max(RESOURCES, key=lambda name, row=row: row["seconds"][name])
        milliseconds[longest] = f"**{milliseconds[longest]}**"
        cost = row["training"]
        hours, days = hours + cost["chip_hours"], days + cost["days"]
        lines.append(
            (
                *(row["stage"], f"{row['batch_per_chip']:g}, {row['remat']}", size(row["hbm"]["peak"])),
                *(milliseconds[name] for name in RESOURCES),
                *(f"{row['mfu_bound']:.0%}", f"{row['samples_per_chip_hour'] / 3600:.1f}"),
                *(f"{cost['chip_hours']:,.0f}", f"{cost['days']:.2f}"),
            )
        )
    lines.append(("all", *[""] * 7, f"{hours:,.0f}", f"{days:.2f}"))
    return _markdown(lines)


def limits(found: Iterable[dict[str, Any]]) -> str:
    """The share of useful operations on matrix units, and what takes most of the resource that bounds a stage."""
    lines: list[tuple[str, ...]] = [("stage", "operations of the model / on matrix units", "bound by", "most of it")]
    for row in found:
        group = row["largest"]["groups"][0]
        total = {"compute": row["unit_flops_per_step"], **row["traffic"]}[row["largest"]["of"]]
        lines.append(
            (
                *(
                    row["stage"],
                    f"{row['model_flops_per_step'] / row['unit_flops_per_step']:.0%}",
                    row["largest"]["of"],
                ),
                f"`{group['what']}` {group['array']}, {group.get('flops', group.get('bytes')) / total:.0%}",
            )
        )
    return _markdown(lines)


def tables(found: list[dict[str, Any]]) -> dict[str, tuple[int, str]]:
    """For each slice its chips and its tables."""
    by_slice = {name: [row for row in found if row["topology"] == name] for name in {r["topology"] for r in found}}
    return {name: (own[0]["chips"], f"{bounds(own)}\n\n{limits(own)}") for name, own in sorted(by_slice.items())}


def page(text: str, found: list[dict[str, Any]]) -> str:
    """The text of a page with the tables between its two comments."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    made = "\n\n".join(f"**{name}**, {found_in} chips\n\n{own}" for name, (found_in, own) in tables(found).items())
    return f"{before}{START}\n\n{made}\n\n{END}{after}"


def main() -> None:
    text = page(PAGE.read_text(), rows())
    PAGE.write_text(text)
    print(text.split(START)[1].split(END)[0].strip())


if __name__ == "__main__":
    main()
