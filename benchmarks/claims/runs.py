"""The runs of docs/claims: their files, which of them a table is about, and where its numbers come from."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codi_jax.config import ConfigError

DIGIT = "digit"  # the factor that every modality shows
ABLATIONS = {  # in the order of the table
    "own": "ours",
    "own-delay-0": "ours, no delay",
    "no-share": "no own share",
    "no-noise": "no noise on the environment",
    "text": "V anchored to the caption",
    "partner": "V anchored to the partner",
    "none": "no anchor",
    "map": "map tokens",
    "merged": "pairs of everything",
    "paper": "paper's loss",
    "paper-delay-5": "paper's loss, delay 5",
}
COMPARED = ("own", "paper", "map", "merged")


@dataclasses.dataclass(frozen=True)
class Run:
    """One file of docs/claims: its name without suffix, and its content as `claims.collect` writes it."""

    name: str
    content: Mapping[str, Any]

    def at(self, *keys: str) -> Any:
        """What lies below a path of keys; None if it is absent."""
        tree: Any = self.content
        for key in keys:
            if not isinstance(tree, Mapping) or key not in tree:
                return None
            tree = tree[key]
        return tree

    def keys(self, *path: str) -> list[str]:
        """The keys of the mapping below a path; none if it is absent."""
        tree = self.at(*path)
        return list(tree) if isinstance(tree, Mapping) else []

    @property
    def commit(self) -> str:
        """Commit of the evaluation."""
        return str(self.at("commit") or "unknown")

    @property
    def seed(self) -> Any:
        """Seed of the training."""
        return self.at("seeds", "training")

    @property
    def length(self) -> str:
        """The option `length` of the config, which multiplies the steps of every stage; "" if it is not named."""
        found = re.search(r"\blength=([\d.]+)", str(self.at("trained_with") or ""))
        return found[1] if found else ""


Runs = Mapping[str, Run]


def read(folder: Path) -> dict[str, Run]:
    """All runs of a folder by name, in the order of their names.

    Raises:
      ConfigError: a file is not JSON.
    """
    runs = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: _order(path.stem)):
        try:
            runs[path.stem] = Run(path.stem, json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ConfigError(f"{path}: not JSON ({error}); collect the run again") from None
    return runs


def _order(name: str) -> tuple[str, int]:
    """Sort key with numbers in the order of their values: seed9, seed10."""
    found = re.search(r"\d+$", name)
    return (name[: found.start()], int(found[0])) if found else (name, -1)


def seeds(runs: Runs) -> list[Run]:
    """The runs of all training seeds."""
    return [run for name, run in runs.items() if re.fullmatch(r"seed\d+", name)]


def main(runs: Runs) -> list[Run]:
    """The training seeds that were trained as long as the first; the packaged model if there are none.

    Others have a table of their own: a mean over lengths would say more of the length than of the seed.
    """
    found = seeds(runs)
    if not found:
        return [run for name, run in runs.items() if name == "packaged"]
    return [run for run in found if run.length == found[0].length]


def of_kind(runs: Runs, kind: str) -> dict[str, Run]:
    """The runs `KIND.NAME` by NAME."""
    return {name.partition(".")[2]: run for name, run in runs.items() if name.startswith(f"{kind}.")}


def titled(found: Mapping[str, Run], titles: Mapping[str, str]) -> dict[str, Run]:
    """Runs by title, those of `titles` first and in its order; others keep their names."""
    names = [*(name for name in titles if name in found), *(name for name in found if name not in titles)]
    return {titles.get(name, name): found[name] for name in names}


def compared(runs: Runs) -> dict[str, Run]:
    """The ablations whose sets of outputs are shown one by one, by title, beside ours of the same length."""
    found = of_kind(runs, "ablation")
    return titled({name: found[name] for name in COMPARED if name in found}, ABLATIONS)


def ablations(runs: Runs) -> dict[str, Run]:
    """The ablations by title, with the option `length` of their training."""
    found = titled(of_kind(runs, "ablation"), ABLATIONS)
    return {f"{title}, length {run.length}" if run.length else title: run for title, run in found.items()}


def union(runs: Iterable[Run], *path: str) -> list[str]:
    """The keys below a path in any of the runs, in the order in which they are met."""
    return list(dict.fromkeys(key for run in runs for key in run.keys(*path)))


def differing_commits(table: str, used: Sequence[Run]) -> str:
    """What is wrong if the runs of a table come from different commits; "" if nothing is."""
    commits: dict[str, list[str]] = {}
    for run in used:
        commits.setdefault(run.commit, []).append(run.name)
    if len(commits) < 2:
        return ""
    found = "; ".join(f"{', '.join(names)} of {commit[:7]}" for commit, names in commits.items())
    return f"table {table}: its runs were evaluated at different commits ({found}); evaluate them in one checkout"


def provenance(used: Sequence[Run], *, seeds: bool) -> str:
    """The sentence that says which command made the numbers of a table, how many samples they have, and the commit.

    Args:
      used: the runs of the table.
      seeds: whether its cells are means over these runs; otherwise each of them has a column or row.
    """
    (first, *_), names = used, {run.name for run in used}
    if names == {"packaged"}:
        command = "make package"
    elif names == {"demo"}:
        command = "make demo"
    else:
        command = f"make claims SEEDS={len(used)}" if seeds and len(used) > 1 else "make claims"
    if seeds and len(used) > 1:
        what = f"Mean (range) of training seeds {', '.join(_described_seed(run, used) for run in used)}"
    else:
        what = "One seed" + (" each" if len(used) > 1 else "")
    counts = sorted({run.at("n") for run in used if run.at("n")})
    n = f", n = {' and '.join(map(str, counts))}" if counts else ""
    commits = ", ".join(f"`{commit[:7]}`" for commit in dict.fromkeys(run.commit for run in used))
    trained = first.at("trained_commit")
    trained = f", trained at `{trained[:7]}`" if trained and len(used) == 1 else ""
    notes = "".join(f" {run.name}: {run.at('note')}." for run in used if run.at("note"))
    return f"{what}{n}; `{command}` at commit {commits}{trained}.{notes}"


def _described_seed(run: Run, used: Sequence[Run]) -> str:
    """The seed, with its length of training if those of the others differ."""
    lengths = {other.length for other in used}
    return f"{run.seed}" + (f" (length {run.length or 1})" if len(lengths) > 1 else "")
