"""The runs behind the tables: what is trained, what is generated with it, and what is measured.

    train       out/claims/trained/NAME     codi-jax train, which goes on where it was
    evaluate    out/claims/measured/NAME    codi-jax evaluate; skipped if it was done at the present commit
    collect     docs/claims/NAME.json

Seed 0 is the model inside the package. Other seeds are measured by directions and sets of outputs. Ablations start from
its codecs, prompt encoders and denoisers, train V and X (pairs of everything: the denoisers, too), and are measured by
the sets of outputs that are generated together. All are sampled with the mean of tokens and guidance without a limit,
for tokens can be weighted by their norms only where V is anchored. An ablation with other settings of sampling has the
weights of another one. The paper's loss is sampled with the settings that its own sweep has chosen
(docs/claims/sweep.paper.json, made on validation samples if it is missing).
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.claims.cells import leaves
from benchmarks.claims.collect import needed
from codi_jax.config import ConfigError
from codi_jax.digit_world import checkout
from codi_jax.packaged import DEFAULT, open_package

SAMPLES = 256
DELAYED = ("image", "audio", "video")
ABLATIONS = {  # name -> options of the config digit_world
    "own": "",
    "no-share": "own_share=0",
    "no-noise": "environment_noise=0",
    "partner": "anchor=partner",
    "text": "anchor=text",
    "none": "anchor=none",
    "paper": "loss=paper",
    "map": "tokens=map",
    "merged": "pools=merged",
}
SWEPT = ("paper",)  # ablations with a sweep of their own
PLAIN = (
    "--config.generate.environment=mean",
    *(f"--config.generate.guidance.{name}.limit=0" for name in ("text", "image", "audio", "video")),
)  # fmt: skip
DELAYS = {"own": 0, "paper": 5}  # ablation -> steps of delay, with its weights, that its own sampling does not have


@dataclasses.dataclass(frozen=True)
class Claim:
    """One run.

    Attributes:
      name: of its file in docs/claims.
      config: the argument of --config of its training; "" if it trains nothing.
      overrides: of that config.
      weights: the name of the run whose weights it has; "" for its own, or for the package.
      evaluation: further arguments of `codi-jax evaluate`.
      sweep: the variant of `benchmarks.sweep` whose chosen settings it is sampled with; "" for those of its config.
    """

    name: str
    config: str = ""
    overrides: tuple[str, ...] = ()
    weights: str = ""
    evaluation: tuple[str, ...] = ()
    sweep: str = ""


def chosen_settings(sweep: Mapping[str, Any]) -> tuple[str, ...]:
    """What a sweep has chosen for outputs without a prompt, as overrides; none if these are the present settings."""
    rows = {row["setting"]: row["generate"] for row in sweep["settings"]}
    name = sweep["chosen"]["joint"] or "present"
    present, chosen = (leaves({k: of[k] for k in ("guidance", "delay")}) for of in (rows["present"], rows[name]))
    changed = ((path, value) for path, value in chosen.items() if present.get(path) != value)
    return tuple(f"--config.generate.{'.'.join(path)}={value:g}" for path, value in changed)


def parts(name: str) -> str:
    """The argument of `codi-jax evaluate` that measures what a run needs, which is not all."""
    return f"--parts={','.join((*(needed(name) or ()), 'pretrained'))}"


def plan(seeds: int, repeat_length: float, ablation_length: float) -> list[Claim]:
    """All runs.

    Args:
      seeds: number of training seeds of the main model, the packaged one included.
      repeat_length: option `length` of the seeds after the first.
      ablation_length: of the ablations.
    """
    out = [Claim("seed0")]
    for seed in range(1, seeds):
        config = f"digit_world:length={repeat_length:g},n={SAMPLES},floors=package"
        out.append(Claim(name := f"seed{seed}", config, (f"--config.seed={seed}",), evaluation=(parts(name),)))
    joint = (parts("ablation.own"), f"--config.evaluate.pretrained={SAMPLES}", *PLAIN)
    for name, option in ABLATIONS.items():
        options = f"start=package,length={ablation_length:g},n={SAMPLES}{',' if option else ''}{option}"
        swept = name if name in SWEPT else ""
        out.append(Claim(f"ablation.{name}", f"digit_world:{options}", evaluation=joint, sweep=swept))
    for name, steps in DELAYS.items():
        delay = tuple(f"--config.generate.delay.{output}={steps}" for output in DELAYED)
        out.append(Claim(f"ablation.{name}-delay-{steps}", weights=f"ablation.{name}", evaluation=(*joint, *delay)))
    return out


class Runner:
    """Runs claims; every part of one is skipped if it has been done.

    Attributes:
      root: the checkout.
      folder: of workdirs and evaluations.
    """

    def __init__(self, root: Path, folder: Path):
        self.root, self.folder = root, folder

    def _call(self, *command: str, accept: Iterable[int] = (0,)) -> None:
        print("$", *command, flush=True)
        code = subprocess.run(command, cwd=self.root, check=False).returncode
        if code not in accept:
            raise ConfigError(f"{' '.join(command[:4])} … ended with {code}; the same command goes on from there")

    def _codi(self, *arguments: str, accept: Iterable[int] = (0,)) -> None:
        self._call(sys.executable, "-m", "codi_jax.cli", *arguments, accept=accept)

    def workdir(self, name: str) -> Path:
        """Of a run that trains."""
        return self.folder / "trained" / name

    def measured(self, name: str) -> Path:
        """The folder of the evaluation of a run."""
        return self.folder / "measured" / name

    def is_measured(self, name: str) -> bool:
        """Whether a run has been evaluated at the present commit."""
        path = self.measured(name) / "metrics.json"
        return path.exists() and json.loads(path.read_text()).get("commit") == checkout.commit()

    def run(self, claim: Claim, jobs: int) -> None:
        """Trains, evaluates and collects one run.

        Raises:
          ConfigError: one of the commands failed, or the package has uncommitted changes.
        """
        if not (commit := checkout.commit()) or commit.endswith("-dirty"):
            raise ConfigError("commit your changes of codi_jax/ first: numbers are of a commit")
        of = claim.weights or claim.name
        workdir, measured = self.workdir(of), self.measured(claim.name)
        packaged = not claim.config and not claim.weights
        if claim.config:
            named = (f"--config={claim.config}", *claim.overrides)
            self._codi("train", *named, f"--workdir={workdir}", f"--jobs={jobs}", "--quiet")
        settings = self._swept(claim.sweep, workdir) if claim.sweep else ()
        if not self.is_measured(claim.name):
            model = f"--model={DEFAULT}" if packaged else f"--workdir={workdir}"
            options = (f"--n={SAMPLES}", f"--out={measured}", *claim.evaluation, *settings)
            self._codi("evaluate", model, *options, accept=(0, 1))  # below the floors is a result, too
        card = (f"--card={open_package(DEFAULT).directory / 'card.json'}",) if packaged else (f"--workdir={workdir}",)
        trained = (f"--trained-with={' '.join((claim.config, *claim.overrides))}",) if claim.config else ()
        collect = ("collect", f"--name={claim.name}", f"--measured={measured}", *card, *trained)
        self._call(sys.executable, "-m", "benchmarks.claims", f"--root={self.root}", *collect)

    def _swept(self, variant: str, workdir: Path) -> tuple[str, ...]:
        """The chosen settings of a sweep, which is made if it is missing."""
        path = self.root / "docs" / "claims" / f"sweep.{variant}.json"
        if not path.exists():
            kept = self.folder / "sweep"
            arguments = (f"--workdir={workdir}", f"--variant={variant}", f"--out={path}", f"--kept={kept}")
            self._call(sys.executable, "-m", "benchmarks.sweep", *arguments)
        return chosen_settings(json.loads(path.read_text()))

    def run_all(self, claims: Sequence[Claim], jobs: int) -> None:
        """Runs whole models one after the other, then what starts from the package, `jobs` at a time."""
        whole = [claim for claim in claims if claim.name.startswith("seed")]
        trained = [claim for claim in claims if claim not in whole and claim.config]
        sampled = [claim for claim in claims if claim.weights]
        for claim in whole:
            self.run(claim, jobs)
        for group in (trained, sampled):
            with ThreadPoolExecutor(jobs) as pool:
                list(pool.map(lambda claim: self.run(claim, 1), group))
