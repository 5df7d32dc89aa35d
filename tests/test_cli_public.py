"""Public weights on the command line: export, convert, generate; a tiny `configs/codi.py` without a workdir."""

import dataclasses
import hashlib
import wave

import numpy as np
import pytest
from PIL import Image

from codi_jax.cli import main
from codi_jax.encoders.inception import InceptionConfig
from codi_jax.evaluation.networks import random_parameters
from codi_jax.interop import families, inception
from codi_jax.interop.names import to_release
from codi_jax.interop.tensors import open_state
from tests.evaluation import made
from tests.interop import files, paper

CONFIG = """from tests.interop import paper


def get_config(argument="compat=release"):
    config = paper.config(argument)
    config.generate.steps = 2
    return config
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny_paper.py"
    path.write_text(CONFIG)
    return f"--config={path}"


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and line.startswith("codi-jax: ")
    return line


@pytest.mark.slow
@pytest.mark.parametrize("to", ["image", "text,image,audio,video"])
def test_export_convert_and_generate(config, tmp_path, capsys, to):
    paper.components(paper.codi(), tmp_path / "components", np.float16)
    main(["export", config, f"--config.weights={tmp_path / 'components'}", f"--out={tmp_path / 'files'}"])
    files = sorted((tmp_path / "files").iterdir())
    assert "CoDi_encoders.pth" in capsys.readouterr().out
    main(["convert", config, f"--out={tmp_path / 'weights'}", *map(str, files)])
    assert "vision_unet" in capsys.readouterr().out
    weights = f"--config.weights={tmp_path / 'weights'}"
    out, ends = tmp_path / "d", {"text": "txt", "image": "png", "audio": "wav", "video": "mp4"}
    main(["generate", config, weights, "--text", "a red seven", f"--to={to}", f"--out={out}"])
    assert sorted(p.name for p in out.iterdir()) == sorted(f"{name}_0.{ends[name]}" for name in to.split(","))
    assert np.asarray(Image.open(out / "image_0.png")).shape == (64, 64, 3)
    if "audio" in to:
        with wave.open(str(out / "audio_0.wav")) as audio:
            assert audio.getnframes() == 160 * 64 + 32 and audio.getframerate() == 16000
        main(["generate", config, weights, f"--audio={out}/audio_0.wav", "--to=image", f"--out={tmp_path / 'e'}"])
        assert (tmp_path / "e" / "image_0.png").exists()
    assert all(value.dtype == np.float16 for value in open_state(files[0]).values())


def test_missing_weights_are_an_error_that_says_what_to_do(config, tmp_path, capsys):
    line = refused(capsys, "generate", config, "--to", "image", "--out", tmp_path / "d")
    assert "no weights for clip_text, vision_unet, vision_codec: train the stage" in line and "--random-weights" in line
    line = refused(capsys, "generate", config, f"--config.weights={tmp_path}", "--to", "image", "--out", tmp_path / "d")
    assert f"no components in {tmp_path}" in line
    assert not (tmp_path / "d").exists()


@pytest.mark.slow
def test_random_weights_are_deterministic(config, tmp_path):
    for name in ("a", "b"):
        main(["generate", config, "--random-weights", "--to", "audio", f"--out={tmp_path / name}"])
    a, b = ((tmp_path / name / "audio_0.wav").read_bytes() for name in ("a", "b"))
    assert a == b and np.ptp(np.frombuffer(a[44:], "<i2")) > 0


def test_exactly_one_of_config_and_workdir_is_required(config, tmp_path, capsys):
    assert "use only one of them" in refused(
        capsys, "generate", config, "--workdir", tmp_path, "--to", "image", "--out", tmp_path / "d"
    )
    assert "needs --workdir" in refused(capsys, "export", "--out", tmp_path / "d")
    assert "unknown arguments: --nonsense" in refused(
        capsys, "convert", "--nonsense", "--out", tmp_path, tmp_path / "x.pth"
    )


def test_a_missing_file_is_an_error(config, tmp_path, capsys):
    line = refused(capsys, "convert", config, "--out", tmp_path / "weights", tmp_path / "none.pth")
    assert "none.pth" in line
    line = refused(capsys, "convert", config, "--only=vae", "--out", tmp_path / "weights", tmp_path / "none.pth")
    assert "--only: no component vae; this model has " in line
    for option in ("--ema", "--only=vocoder"):
        line = refused(capsys, "convert", option, "--out", tmp_path / "weights", tmp_path / "none.pth")
        assert "--ema and --only are for components of a model: give its --config or --workdir" in line
    assert not (tmp_path / "weights").exists()


@pytest.mark.slow
def test_weights_of_a_feature_network_are_converted_without_a_config_and_measure_the_same(
    config, tmp_path, capsys, monkeypatch
):
    small = dataclasses.replace(inception.WEIGHTS, published=InceptionConfig(classes=5, divisor=16))
    monkeypatch.setattr(families, "FEATURE_WEIGHTS", (small, *families.FEATURE_WEIGHTS[1:]))
    monkeypatch.setattr("codi_jax.evaluation.inception.WEIGHTS", small)
    state = to_release(random_parameters(small.shapes(small.published), 0), inception.RULES)
    file, networks = files.save(tmp_path / "inception.pth", state), tmp_path / "networks"
    line = refused(capsys, "convert", config, f"--out={networks}", file)
    assert "inception.pth: Inception-v3 of FID is no component of a CoDi model" in line
    codi = files.save(tmp_path / "codi.pth", {"autokl.encoder.conv_in.weight": np.zeros((2, 2), np.float32)})
    line = refused(capsys, "convert", f"--out={networks}", codi, file)
    assert line.endswith(f"codi.pth: no feature network, as {file} is: convert them in two calls")
    assert not networks.exists()
    main(["convert", f"--out={networks}", str(file)])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["inception", "472"]
    samples = made.images(tmp_path / "samples", 2)
    for name, weights in (("file", file), ("directory", networks)):
        options = (f"--networks=inception={weights}", "--metrics=inception_score", f"--out={tmp_path / name}")
        main(["evaluate", f"--samples={samples}", *options])
    by_file, by_directory = ((tmp_path / name / "metrics.json").read_bytes() for name in ("file", "directory"))
    assert by_file == by_directory and hashlib.sha256(file.read_bytes()).hexdigest() in by_file.decode()
