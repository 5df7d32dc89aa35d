"""What dotted names stand for."""

import importlib


def find(name):
    """The module, or the name of a module, that a dotted name is."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)
