"""`codi-jax serve`: its options, and what is refused before a model is opened."""

import importlib.util

import pytest

from codi_jax.cli import main
from codi_jax.cli import serve as verb
from codi_jax.serve import page


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["serve", *arguments])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_it_says_how_to_get_gradio(capsys, monkeypatch):
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)
    assert refused(capsys) == "codi-jax: the playground needs gradio: pip install 'codi_jax[serve]'"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--port=many"], "--port: expected a whole number, got 'many'"),
        (["--port=70000"], "--port: expected 0 to 65535, got 70000"),
        (["--max-n=0"], "--max-n: expected a positive number, got '0'"),
        (["--max-seconds=nan"], "--max-seconds: expected a positive number, got 'nan'"),
        (["--max-megabytes=inf"], "--max-megabytes: expected a positive number, got 'inf'"),
        (["--bogus"], "unknown arguments: --bogus"),
        (["--model=digit_world", "--weights=w"], "--model names a packaged model; leave out --workdir and --config"),
    ],
)
def test_what_is_refused(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(page, "gradio_module", lambda: None)
    assert refused(capsys, *arguments) == f"codi-jax: {message}"


@pytest.mark.parametrize("given, loop", [([], "host"), (["--config.generate.loop=scan"], "scan")])
def test_it_samples_step_by_step_unless_told(monkeypatch, given, loop):
    class Stop(Exception):
        pass

    def opened(model, title, limits):
        raise Stop(model.config.loop)

    monkeypatch.setattr(page, "gradio_module", lambda: None)
    monkeypatch.setattr("codi_jax.serve.playground.Playground", opened)
    with pytest.raises(Stop, match=f"^{loop}$"):
        main(["serve", *given])


@pytest.mark.parametrize(
    "host, own", [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)]
)
def test_what_is_this_machine_alone(host, own):
    assert verb._is_loopback(host) == own


def test_it_binds_to_this_machine_unless_told():
    from codi_jax.cli.entry import make_parser

    assert make_parser().parse_args(["serve"]).host == "127.0.0.1"
    assert importlib.util.find_spec("codi_jax.serve.server")
