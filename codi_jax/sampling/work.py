"""What the networks compute in each network call of joint sampling, known on the host before the first one.

In a call, an output whose timestep does not change waits: a delayed one that has not started, or a finished one. Of the
others, the denoiser is evaluated on the branches that guidance needs there; and V is evaluated of those outputs whose
tokens one of these branches reads.
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from codi_jax.diffusion.guidance import Branch, evaluate, needed, without_prompt
from codi_jax.diffusion.samplers import NetworkCalls


class Work(NamedTuple):
    """The evaluations of a network call.

    Attributes:
      branches: output -> the branches on which its denoiser is evaluated, those with the environment last; without the
        outputs that wait.
      read: outputs, waiting ones too, whose environment tokens these branches read.
    """

    branches: dict[str, tuple[Branch, ...]]
    read: tuple[str, ...]

    def joint(self, name: str) -> int:
        """The number of branches of an output that read the environment."""
        return sum(branch.environment for branch in self.branches[name])


@dataclasses.dataclass(frozen=True)
class WorkPlan:
    """The network calls of K outputs and the work of each.

    Attributes:
      outputs: their names.
      calls: R network calls, pairs [R, K, 2].
      branches: the k branches of joint generation or of an output alone.
      coefficients: output -> [R, k, B].
      work: of each call.
    """

    outputs: tuple[str, ...]
    calls: NetworkCalls
    branches: tuple[Branch, ...]
    coefficients: dict[str, np.ndarray]
    work: tuple[Work, ...]

    @classmethod
    def of(
        cls,
        rules: Mapping[str, Callable],
        calls: NetworkCalls,
        branches: tuple[Branch, ...],
        sources: Mapping[str, Collection[str]],
        batch: int,
        prompted: bool,
    ) -> "WorkPlan":
        """Evaluates the rules of guidance.

        Args:
          rules: output -> its rule, see `Guidance.coefficients`; of K outputs.
          calls: pairs [R, K, 2], the outputs in the order of `rules`.
          branches: of the rules.
          sources: output -> the outputs that it attends to.
          batch: B.
          prompted: whether the prompt differs from the null prompt.
        """
        seen = np.where(calls.evaluation[:, None] > 0, calls.pairs[..., 1], calls.pairs[..., 0])
        coefficients = {
            name: evaluate(rule, seen[:, k], branches, batch) for k, (name, rule) in enumerate(rules.items())
        }
        if not prompted:
            coefficients = {name: without_prompt(values, branches) for name, values in coefficients.items()}
        work = []
        for r, pairs in enumerate(calls.pairs):
            moving = [name for name, (t, t_next) in zip(rules, pairs, strict=True) if t != t_next]
            own = {name: needed(coefficients[name][r], branches) for name in moving}
            reading = {m for name, some in own.items() if any(b.environment for b in some) for m in sources[name]}
            work.append(Work(own, tuple(name for name in rules if name in reading)))
        return cls(tuple(rules), calls, branches, coefficients, tuple(work))

    def timesteps(self, name: str) -> np.ndarray:
        """(t, t_next) of an output in every call, [R, 2]."""
        return self.calls.pairs[:, self.outputs.index(name)]

    def seen(self, name: str, row: int) -> np.generic:
        """The timestep at which the networks see an output in a call."""
        return self.timesteps(name)[row, int(self.calls.evaluation[row] > 0)]

    def coefficients_of(self, name: str, rows: slice) -> np.ndarray:
        """The coefficients [rows, k', B] of the k' branches of an output that are evaluated in calls of equal work."""
        evaluated = [self.branches.index(branch) for branch in self.work[rows.start].branches[name]]
        return self.coefficients[name][rows][:, evaluated]

    def single_calls(self) -> Iterator[slice]:
        """Every call by itself."""
        return (slice(row, row + 1) for row in range(len(self.work)))

    def segments(self) -> Iterator[slice]:
        """The longest ranges of consecutive calls of equal work."""
        start = 0
        for _, same in itertools.groupby(self.work):
            stop = start + len(list(same))
            yield slice(start, stop)
            start = stop
