"""What is asked in processes, asked in this one."""

import pytest

from codi_jax import packaged
from codi_jax.config import ConfigError
from codi_jax.doctor import probe
from codi_jax.doctor.ask import Answer, to_answer


def test_devices(monkeypatch):
    for name in ("CODI_COORDINATOR", "CODI_PROCESSES", "CODI_PROCESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    assert probe.devices() == {"platform": "cpu", "groups": [("cpu", 8, None)], "processes": 1, "source": ""}
    monkeypatch.setenv("CODI_PROCESSES", "2")
    with pytest.raises(ConfigError, match="CODI_COORDINATOR, CODI_PROCESS not set"):
        probe.devices()
    monkeypatch.setenv("CODI_COORDINATOR", "host:1")
    monkeypatch.setenv("CODI_PROCESS", "0")
    assert probe.devices()["processes"] == 2


def test_codecs_that_the_wheel_of_pyav_has(monkeypatch):
    found = probe.codecs()
    assert found["missing"] == [] and found["ffmpeg"]
    monkeypatch.setattr(probe, "_ENCODERS", ("libx264", "no_such"))
    assert probe.codecs()["missing"] == ["no_such (encoder)"]


def test_the_packaged_model(tmp_path, monkeypatch):
    found = probe.model()
    assert found["name"] == packaged.DEFAULT and found["size"] > 1 << 20
    source = packaged.MODELS[packaged.DEFAULT]
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    file = tmp_path / packaged.FILES["judges"]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    monkeypatch.setitem(packaged.MODELS, packaged.DEFAULT, tmp_path)
    with pytest.raises(
        ConfigError, match=r"judges\.safetensors: is not the file that was packaged; reinstall codi_jax"
    ):
        probe.model()


def test_plugins_and_the_line_of_an_error(capsys):
    probe.main(["plugins", "json"])
    assert to_answer(capsys.readouterr().out, "", 0) == Answer({})
    with pytest.raises(SystemExit, match="no module 'no_such_plugin'"):
        probe.main(["plugins", "no_such_plugin"])


def test_jax_takes_no_memory_of_a_gpu_before_it_needs_it():
    assert probe.environment({"A": "b"})["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
