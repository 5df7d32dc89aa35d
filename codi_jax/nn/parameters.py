"""Parameters are read without tracing their initializers, which is half of the time of tracing a U-Net.

Flax traces the initializer of a parameter whenever it is read, to compare the shape of its result with the value's.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from flax.errors import ScopeParamShapeError

if TYPE_CHECKING:
    from flax.linen import Module
else:
    Module = object  # a base that were a module would have its methods wrapped


class ReadsParameters(Module):
    """A base of Flax modules, named before Flax's own, whose initializers have the signature (key, shape, …)."""

    def param(self, name: str, init_fn: Any, shape: tuple[int, ...], *args: Any, **kwargs: Any) -> Any:
        """`flax.linen.Module.param` of an array; an existing one is compared with `shape` and returned.

        Raises:
          ScopeParamShapeError: the parameter has another shape.
        """
        scope = self.scope
        assert scope is not None  # the module is bound
        if not scope.has_variable("params", name):
            return super().param(name, init_fn, shape, *args, **kwargs)
        value = scope.get_variable("params", name)
        if np.shape(value) != tuple(shape):
            raise ScopeParamShapeError(name, scope.path_text, np.shape(value), tuple(shape))
        return value
