"""Lines about stages that go on to more steps than they were begun with, and about those that were trained before.

A stage that is given more steps goes on from its last checkpoint. With a constant learning rate it ends bit-identical
to one that was begun with all of them; the cosine schedule is one of all steps, so there it does not. What was trained
with its former weights stays as it is: these hours are the user's to spend again.
"""

from collections.abc import Mapping

from codi_jax.train.recipe import Run


def begun_line(run: Run, name: str, step: int, after: Mapping[str, int]) -> str:
    """The line about a stage that goes on after it, or one before it, had finished with fewer steps; else empty.

    Args:
      run, name: the stage.
      step: of the checkpoint from which it goes on.
      after: see `steps_before`, when it was begun.
    """
    meta, stage = run.finished_meta(name), run.stage(name)
    if meta is None and step and (which := _which(_fewer(run, after))):
        return f"{name}  goes on, begun with {which}; delete {run.directory(name)} to begin it again"
    if meta is None or run.complete(name):
        return ""
    if not step:
        return f"{name}  has no checkpoint to go on from; all of its {stage.steps} steps are trained"
    line = f"{name}  goes on from step {step} to {stage.steps}"
    if stage.optimizer.schedule == "cosine":
        line += (
            f"; its learning rate, a cosine to the last step, begins again at the place of {step} in {stage.steps}, so "
            f"the result differs from that of {stage.steps} steps at once"
        )
    return line


def steps_before(run: Run, name: str) -> dict[str, int]:
    """Stage that a stage depends on -> the steps with which it has finished."""
    metas = {need: run.finished_meta(need) for need in run.ancestors(name) if run.stage(need).trains}
    return {need: meta["steps"] for need, meta in metas.items() if meta is not None and "steps" in meta}


def earliest(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """The steps of stages before one that goes on: those with which it was begun."""
    return {need: min(steps, before.get(need, steps)) for need, steps in now.items()}


def outdated(run: Run, name: str) -> dict[str, int]:
    """The stages that have gone on, or will, since a finished stage that depends on them was trained -> their steps."""
    before = (run.finished_meta(name) or {}).get("after", {}) if run.stage(name).trains else {}
    return _fewer(run, before)


def _fewer(run: Run, before: Mapping[str, int]) -> dict[str, int]:
    return {need: steps for need, steps in before.items() if need in run.stages and run.stage(need).steps > steps}


def _which(steps: Mapping[str, int]) -> str:
    return ", ".join(f"{need} of {number} steps" for need, number in steps.items())


def finished_line(run: Run, name: str) -> str:
    """The line about a finished stage, which is not trained again."""
    if not (which := _which(outdated(run, name))):
        return f"{name}  finished"
    return f"{name}  finished, with {which}; delete {run.directory(name)} to train it again"
