"""The command line of `benchmarks.claims`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.claims import __doc__ as about
from benchmarks.claims.documents import DOCUMENTS, rewrite
from benchmarks.claims.runs import differing_commits, read
from benchmarks.claims.tables import TABLES, Table
from codi_jax.config import ConfigError

ROOT = Path(__file__).parents[2]


def make_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        "benchmarks.claims", description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="the checkout: README.md, docs/results.md, docs/claims/"
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("collect", help="write docs/claims/NAME.json from an evaluated run")
    one.add_argument("--name", required=True, help="seedK, packaged, demo or ablation.NAME")
    one.add_argument("--workdir", type=Path, help="of an evaluated run")
    one.add_argument("--measured", type=Path, help="folder of the evaluation, if it is not in the workdir")
    one.add_argument("--note", default="", help="what a reader of the tables must know, such as 'half as long'")
    one.add_argument("--trained-with", default="", metavar="CONFIG", help="the argument of --config of the training")
    one.add_argument("--commit", default="", help="of the evaluation, if its metrics do not say it")
    one.add_argument(
        "--card",
        type=Path,
        help="card.json of a package: its numbers, or how the model evaluated in --workdir was trained",
    )
    one.add_argument("--out", type=Path, help="another folder than docs/claims")
    one.add_argument("--allow-dirty", action="store_true", help="accept an evaluation by a checkout with changes")
    every = verbs.add_parser("run", help="train, evaluate and collect all runs, or some; goes on where it was")
    every.add_argument("--only", action="append", default=[], metavar="NAME", help="only this run (repeatable)")
    every.add_argument("--list", action="store_true", help="print the runs, and which are measured")
    every.add_argument("--seeds", type=int, default=3, help="training seeds, that of the package included (3)")
    every.add_argument("--repeat-length", type=float, default=3, help="option length of the seeds after the first (3)")
    every.add_argument("--ablation-length", type=float, default=1, help="of the ablations (1)")
    every.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    every.add_argument("--folder", type=Path, default=Path("out/claims"), help="of workdirs and evaluations")
    for verb, meaning in (
        ("tables", "print all tables"),
        ("readme", "write the tables into README.md and docs/results.md"),
        ("check", "exit with 1 if the documents differ from docs/claims, or if a table mixes commits"),
    ):
        verbs.add_parser(verb, help=meaning)
    return parser


def collect(args: argparse.Namespace) -> None:
    """Writes the file of one run."""
    from benchmarks.claims.collect import collect, dumps

    content = collect(
        args.workdir,
        args.name,
        measured=args.measured,
        note=args.note,
        trained_with=args.trained_with,
        commit=args.commit,
        card=args.card,
        allow_dirty=args.allow_dirty,
    )
    path = (args.out or args.root / "docs" / "claims") / f"{args.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(content) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def run_claims(args: argparse.Namespace) -> None:
    """Trains, evaluates and collects."""
    from benchmarks.claims.plan import Runner, plan

    claims = plan(args.seeds, args.repeat_length, args.ablation_length)
    named = {claim.name: claim for claim in claims}
    if unknown := [name for name in args.only if name not in named]:
        raise ConfigError(f"--only={unknown[0]}: no such run; there are {', '.join(named)}")
    runner = Runner(args.root, args.folder)
    if args.list:
        for claim in claims:
            state = "measured" if runner.is_measured(claim.name) else "to do"
            print(f"{claim.name:24}{state:10}{' '.join((claim.config, *claim.overrides))}")
        return
    runner.run_all([named[name] for name in args.only] or claims, args.jobs)


def tables_of(root: Path) -> dict[str, Table]:
    """Every table, of docs/claims."""
    runs = read(root / "docs" / "claims")
    return {name: draw(runs) for name, draw in TABLES.items()}


def problems_of(tables: dict[str, Table]) -> list[str]:
    """A line for each table whose runs are of different commits."""
    return [line for name, table in tables.items() if (line := differing_commits(name, table.used))]


def documents(root: Path, tables: dict[str, Table], *, write: bool) -> dict[str, list[str]]:
    """The names of the tables that differ in each document; they are written if `write`.

    Raises:
      ConfigError: a document is missing, or one of its markers.
    """
    texts, out = {name: table.text() for name, table in tables.items()}, {}
    for document, required in DOCUMENTS.items():
        path = root / document
        if not path.exists():
            raise ConfigError(
                f"{path}: no such file; it holds tables between <!-- claims:NAME --> and <!-- /claims -->"
            )
        text, out[document] = rewrite(document, path.read_text(encoding="utf-8"), texts, required)
        if write and out[document]:
            path.write_text(text, encoding="utf-8")
    return out


def run(args: argparse.Namespace) -> int:
    """Runs a verb; returns the exit code."""
    if args.verb == "collect":
        collect(args)
        return 0
    if args.verb == "run":
        run_claims(args)
        return 0
    tables = tables_of(args.root)
    problems = problems_of(tables)
    if args.verb == "tables":
        print("\n".join(f"## {name}\n\n{table.text()}\n" for name, table in tables.items()))
    elif args.verb == "readme":
        if problems:
            raise ConfigError("; ".join(problems))
        for document, names in documents(args.root, tables, write=True).items():
            print(f"{document}: {'wrote ' + ', '.join(names) if names else 'nothing changed'}")
    else:
        problems += [
            f"{document}: {', '.join(names)} not as in docs/claims; run `python -m benchmarks.claims readme`"
            for document, names in documents(args.root, tables, write=False).items()
            if names
        ]
    for problem in problems:
        print(f"benchmarks.claims: {problem}", file=sys.stderr)
    return 1 if problems and args.verb == "check" else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the arguments and runs the verb; bad input gives one line and 2."""
    try:
        return run(make_parser().parse_args(arguments))
    except ConfigError as error:
        print(f"benchmarks.claims: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
