"""What a recipe has trained together, read off its stages.

A direction is `paired` if training samples held both modalities; within one modality, if its denoiser was prompted by
itself. A set of outputs is `trained` if a latent alignment stage generated exactly these together.
"""

from collections.abc import Iterable, Sequence
from typing import Any

JUDGE_OBJECTIVES = ("judge", "similarity")  # objectives of what no generator sees


def is_paired(stages: Iterable[Any], source: str, target: str) -> bool:
    """Whether samples of both were seen, in any stage."""
    if source != target:
        # Where sources are mixed, no sample holds all of the stage's modalities; its sources are stages themselves.
        of_model = [s for s in stages if isinstance(s.source, str) and s.objective not in JUDGE_OBJECTIVES]
        return any({source, target} <= set(s.modalities) for s in of_model)
    ldm = [s for s in stages if s.objective == "ldm" and s.modalities[0] == target]
    return any(source in s.settings.get("prompts", {}).get("sources", ()) for s in ldm)


def trained_together(stages: Iterable[Any], outputs: Sequence[str]) -> bool:
    """Whether exactly these outputs were denoised with each other's environment in one stage."""
    joint = [s for s in stages if s.objective == "latent_alignment" and s.settings.get("losses")]
    return any(set(s.modalities) == set(outputs) for s in joint)
