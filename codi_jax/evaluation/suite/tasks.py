"""What a task of a suite is."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Published:
    """A number that somebody has published.

    Attributes:
      value: in the units of our metric of that name.
      source: where it was read.
      network: the kind of network that it was measured by, see `evaluation.networks`; "" for none.
    """

    value: float
    source: str
    network: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
      name: of its folders and rows.
      table: the title of the table that it is a row of.
      dataset: a name of `datasets.DATASETS`.
      prompts: modalities of the prompts, which are real samples.
      outputs: modalities that are generated together.
      metrics: names of `measure.METRICS`; those that no given network can measure are left out.
      independent: whether each output is generated alone, too, from the same prompts and noise.
      published: metric -> what the paper reports as its first number.
    """

    name: str
    table: str
    dataset: str
    prompts: tuple[str, ...]
    outputs: tuple[str, ...]
    metrics: tuple[str, ...]
    independent: bool = False
    published: Mapping[str, Published] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of prompts and outputs."""
        return tuple(dict.fromkeys((*self.prompts, *self.outputs)))

    @property
    def truncated(self) -> bool:
        """Whether the text prompt is only the beginning of a caption, as in the paper's joint training."""
        return bool({"text"} & set(self.prompts) & set(self.outputs))
