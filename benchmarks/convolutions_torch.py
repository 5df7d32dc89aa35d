"""The convolution of PyTorch, which is oneDNN's on CPU, in both memory formats."""

import importlib
from typing import Any

import numpy as np

from benchmarks.convolutions_cases import Size, make_arrays

torch = importlib.import_module("torch")  # of the extra `parity`
FORMATS = {"onednn": "contiguous_format", "onednn last": "channels_last"}


class Convolutions:
    """As in `convolutions_jax`, for the names of FORMATS."""

    def __init__(self, threads: int):
        torch.set_num_threads(threads)
        self._prepared: dict[Any, Any] = {}

    def _arguments(self, name: str, size: Size) -> Any:
        if (name, size) not in self._prepared:
            self._prepared.clear()
            x, kernel, gradient = make_arrays(size)
            layout = getattr(torch, FORMATS[name])
            maps = [torch.from_numpy(a).movedim(-1, 1).contiguous(memory_format=layout) for a in (x, gradient)]
            weights = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).contiguous(memory_format=layout)
            self._prepared[name, size] = maps[0].requires_grad_(), weights.requires_grad_(), maps[1], {}
        return self._prepared[name, size]

    def run(self, name: str, size: Size, backward: bool) -> Any:
        """Runs the convolution: y; or, backward, the gradients of x and of the kernel for a gradient of y."""
        x, kernel, gradient, kept = self._arguments(name, size)
        if not backward:
            with torch.no_grad():
                return torch.nn.functional.conv2d(x, kernel, stride=size.stride, padding=1)
        if "y" not in kept:
            kept["y"] = torch.nn.functional.conv2d(x, kernel, stride=size.stride, padding=1)
        return torch.autograd.grad(kept["y"], (x, kernel), gradient, retain_graph=True)

    def values(self, name: str, size: Size, backward: bool) -> list[np.ndarray]:
        """The results of `run`, in our layout."""
        if not backward:
            return [self.run(name, size, False).movedim(1, -1).numpy()]
        of_x, of_kernel = self.run(name, size, True)
        return [of_x.movedim(1, -1).numpy(), of_kernel.permute(2, 3, 1, 0).numpy()]
