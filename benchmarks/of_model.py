"""The command line of benchmarks that measure a packaged model with some samples: --model, --n, --json."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codi_jax.packaged import DEFAULT

Rows = list[dict[str, Any]]


def run(about: str | None, n: int, measure: Callable[[str, int], Rows], to_table: Callable[[Rows], str]) -> None:
    """Parses the command line, measures, writes the rows as JSON if asked to, and prints their table.

    Args:
      about: the docstring of the benchmark.
      n: the default number of samples.
      measure: (name or folder of the package, number of samples) -> rows.
      to_table: rows -> text.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT, help=f"a packaged model, or a folder of one ({DEFAULT})")
    parser.add_argument("--n", type=int, default=n, help=f"number of samples ({n})")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    rows = measure(args.model, args.n)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(to_table(rows))
