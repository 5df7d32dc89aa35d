"""Refusals of the command line: one line on stderr, exit code 2."""

import pytest

from codi_jax import cli


def refused(capsys, *arguments):
    """The line of a refused command, without the name of the program."""
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, arguments)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("codi-jax: ") and error.count("\n") == 1
    return error.removeprefix("codi-jax: ").rstrip()
