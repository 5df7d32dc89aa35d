"""Training seeds, those that were trained for a shorter time in a column of their own."""

from collections.abc import Sequence

from benchmarks.claims import judged
from benchmarks.claims.cells import average, cell, markdown
from benchmarks.claims.runs import DIGIT, Run


def by_length(used: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each length of training, that of the first run first."""
    out: dict[str, list[Run]] = {}
    for run in used:
        out.setdefault(run.length or "1", []).append(run)
    return out


def table(used: Sequence[Run], judge: str) -> str:
    """A row for each kind of number, a column for each length: the mean over its seeds, and the range."""
    groups = by_length(used)
    names = judged.sets(used, judge)
    size = {name: name.count("+") + 1 for name in names}
    new = [name for name in names if size[name] == 2 and judged.stars(used[:1], "trained", name)]

    def directions(kind: str, choose: str) -> list[float | None]:
        out = []
        for run in used:
            found = [run.at("judges", judge, kind, name, DIGIT, "accuracy") for name in run.keys("judges", judge, kind)]
            known = [value for value in found if value is not None]
            out.append((min(known) if choose == "lowest" else average(known)) if known else None)
        return out

    rows: list[tuple[str, list[float | None]]] = [
        ("prompt to output, mean", directions("matrix", "mean")),
        ("prompt to output, lowest", directions("matrix", "lowest")),
        ("combinations held out of training, mean", directions("held_out", "mean")),
        *(
            (title, [judged.mean_of(run, judge, group) for run in used])
            for title, group in (
                ("pairs generated together", [name for name in names if size[name] == 2]),
                ("pairs never trained", new),
                ("sets of three", [name for name in names if size[name] == 3]),
                ("all four", [name for name in names if size[name] == 4]),
            )
        ),
        ("other factors", [judged.mean_of_others(run, judge, names) for run in used]),
        ("entropy", [judged.mean_of(run, judge, names, "entropy") for run in used]),
    ]
    titles = [f"length {length}, {_named(runs)}" for length, runs in groups.items()]
    return markdown(
        ["digit", *titles],
        [
            [title, *(cell([values[used.index(run)] for run in runs]) for runs in groups.values())]
            for title, values in rows
        ],
    )


def _named(runs: Sequence[Run]) -> str:
    """ "seed 0", or "seeds 1 and 2"."""
    return f"seed{'s' if len(runs) > 1 else ''} {' and '.join(str(run.seed) for run in runs)}"
