"""Tables of digits, for each kind of judge: judges from elsewhere (PP-OCR, Whisper) lead, the packaged ones follow.

They read what `claims.collect` keeps of a run:

    judges/JUDGE/matrix/A->B/FACTOR     {"accuracy", "ceiling", "shuffled", …}; judges/JUDGE/held_out likewise
    judges/JUDGE/joint/A+B/FACTOR       {"joint", "independent", "shuffled", "chance", "entropy", …}
    paired/A->B, trained/A+B            whether training samples hold both; whether a stage trains the outputs together
    sim/A+B, frechet/A+B/MODALITY       {"joint", "shuffled", …}; [together, alone]
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.claims.cells import STAR, average, cell, markdown, number
from benchmarks.claims.runs import DIGIT, Run, union

JUDGES = ("outside", "packaged")


def judged(used: Sequence[Run], draw: Callable[[str], str]) -> list[str]:
    """For each judge that has something to say: a line that names it, and what `draw` gives for it."""
    blocks = []
    for judge in JUDGES:
        if drawn := draw(judge):
            blocks += [_named(used, judge), drawn]
    return blocks


def _named(used: Sequence[Run], judge: str) -> str:
    if judge == "packaged":
        return "Read by the packaged judges:"
    networks: dict[str, list[str]] = {}
    for run in used:
        for modality, network in (run.at("judges", judge, "networks") or {}).items():
            if modality not in networks.setdefault(network, []):
                networks[network].append(modality)
    by = " and ".join(f"{network} ({', '.join(of)})" for network, of in networks.items())
    counts = sorted({n for run in used if (n := run.at("judges", judge, "n"))})
    return f"Read by judges from elsewhere, {by}{f', n = {chr(32).join(map(str, counts))}' if counts else ''}:"


def stars(used: Iterable[Run], kind: str, name: str) -> str:
    """The mark of a direction (`paired`) or of a set (`trained`) that no run has trained."""
    known = [run.at(kind, name) for run in used]
    return STAR if known and all(value is False for value in known) else ""


def direction_table(used: Sequence[Run], kind: str, judge: str) -> str:
    """Prompt × output: how often the output shows the prompt's digit, the ceiling, and other samples' prompts.

    Args:
      used: the runs, over which the cells are means.
      kind: `matrix` or `held_out`.
      judge: one of JUDGES.
    """
    path = ("judges", judge, kind)
    names = [name.split("->") for name in union(used, *path)]
    prompts, outputs = (list(dict.fromkeys(name[side] for name in names)) for side in (0, 1))
    outputs.sort(key=[*prompts, *outputs].index)

    def rate(run: Run, prompt: str, output: str, key: str) -> float | None:
        return run.at(*path, f"{prompt}->{output}", DIGIT, key)

    rows = [
        [a, *(cell((rate(r, a, b, "accuracy") for r in used), stars(used, "paired", f"{a}->{b}")) for b in outputs)]
        for a in prompts
    ]
    for title, key in (("*ceiling: real samples*", "ceiling"), ("*shuffled: prompts of others*", "shuffled")):
        rows.append([title, *(cell(average(rate(r, a, b, key) for a in prompts) for r in used) for b in outputs)])
    return markdown([r"prompt \ output", *outputs], rows)


def directions(used: Sequence[Run], kind: str, judge: str) -> str:
    """The table of directions and the sentence about other factors than the digit."""
    table = direction_table(used, kind, judge)
    return "\n\n".join(filter(None, (table, factor_summary(used, kind, judge)))) if table else ""


def factor_summary(used: Sequence[Run], kind: str, judge: str) -> str:
    """A sentence with the lowest direction of every factor but the digit."""
    lowest: dict[str, tuple[float, str, str]] = {}
    path = ("judges", judge, kind)
    for name in union(used, *path):
        for factor in (f for f in union(used, *path, name) if f != DIGIT):
            rates = [run.at(*path, name, factor, "accuracy") for run in used]
            mean, text = average(rates), cell(rates)
            if text and mean is not None and mean < lowest.get(factor, (2.0,))[0]:
                lowest[factor] = mean, text, name.replace("->", " → ")
    parts = [f"{factor} {text} in {name}" for factor, (_, text, name) in lowest.items()]
    return f"Other factors, the lowest of all directions: {', '.join(parts)}." if parts else ""


def set_title(used: Sequence[Run], outputs: str) -> str:
    """A set of outputs as the first cell of its row."""
    return outputs.replace("+", " + ") + stars(used, "trained", outputs)


def sets(used: Iterable[Run], judge: str) -> list[str]:
    """The sets of outputs that were generated together."""
    return union(used, "judges", judge, "joint")


def frechet_ratio(run: Run, outputs: str) -> float | None:
    """The largest Fréchet distance to real samples over the outputs of a set, as a multiple of that of them alone."""
    pairs: Mapping[str, Sequence[float]] = run.at("frechet", outputs) or {}
    return max((together / alone for together, alone in pairs.values() if alone), default=None)


def joint_table(used: Sequence[Run], judge: str) -> str:
    """Outputs generated together from the null prompt: how often all of them show the same digit."""
    path = ("judges", judge, "joint")
    keys = {"together": "joint", "alone": "independent", "shuffled": "shuffled", "chance": "chance",
            "ceiling": "ceiling", "entropy": "entropy"}  # fmt: skip
    packaged = judge == JUDGES[1]
    extra = ("SIM", "SIM, shuffled", "Fréchet ratio") if packaged else ()
    rows = []
    for name in sets(used, judge):
        row = [set_title(used, name)]
        row += [cell(run.at(*path, name, DIGIT, key) for run in used) for key in keys.values()]
        row.append(_lowest_factor(used, judge, name))
        if packaged:
            row += [
                cell(run.at("sim", name, "joint") for run in used),
                cell(run.at("sim", name, "shuffled") for run in used),
                cell(frechet_ratio(run, name) for run in used),
            ]
        rows.append(row)
    return markdown(["outputs", *keys, "lowest other factor", *extra], rows)


def other_factors(used: Iterable[Run], judge: str, name: str) -> list[str]:
    """The factors but the digit that a set of outputs can agree in."""
    return [factor for factor in union(used, "judges", judge, "joint", name) if factor != DIGIT]


def _lowest_factor(used: Sequence[Run], judge: str, name: str) -> str:
    rates = {
        factor: [run.at("judges", judge, "joint", name, factor, "joint") for run in used]
        for factor in other_factors(used, judge, name)
    }
    means = {factor: mean for factor, of in rates.items() if (mean := average(of)) is not None and cell(of)}
    factor = min(means, key=means.__getitem__, default=None)
    return f"{factor} {cell(rates[factor])}" if factor else ""


def factor_table(used: Sequence[Run], judge: str) -> str:
    """Outputs generated together: agreement in every factor but the digit."""
    names = sets(used, judge)
    factors = list(dict.fromkeys(f for name in names for f in other_factors(used, judge, name)))
    rows = [
        [
            set_title(used, name),
            *(cell(run.at("judges", judge, "joint", name, f, "joint") for run in used) for f in factors),
        ]
        for name in names
    ]
    return markdown(["outputs", *factors], rows)


def mean_of_others(run: Run, judge: str, names: Iterable[str]) -> float | None:
    """Mean agreement over sets of outputs and over their factors but the digit."""
    return average(
        run.at("judges", judge, "joint", name, factor, "joint")
        for name in names
        for factor in other_factors([run], judge, name)
    )


def mean_of(run: Run, judge: str, names: Iterable[str], key: str = "joint") -> float | None:
    """Mean over sets of outputs of a number about their digit."""
    return average(run.at("judges", judge, "joint", name, DIGIT, key) for name in names)


def widest_interval(used: Iterable[Run]) -> str:
    """A sentence with the widest 95 % interval of a digit, for one seed; "" if no interval is known.

    Samples with the same glyph or speaker are not independent; it has the smallest effective number of samples, too.
    """
    halves, effective = [], []
    for run in used:
        for judge in JUDGES:
            for kind in ("matrix", "held_out", "joint"):
                for name in run.keys("judges", judge, kind):
                    row = run.at("judges", judge, kind, name, DIGIT) or {}
                    halves += [(row["interval"][1] - row["interval"][0]) / 2] if "interval" in row else []
                    effective += [row["n_effective"]] if "n_effective" in row else []
    independent = f", as of {min(effective):.0f} or more independent samples" if effective else ""
    return f"95 % intervals of single numbers: at most ±{number(max(halves))}{independent}." if halves else ""
