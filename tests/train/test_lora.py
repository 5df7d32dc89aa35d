"""Stages that train adapters: what they save, resume, shard and merge, and who reads it."""

import json
import re

import jax
import numpy as np
import pytest

import codi_jax
from codi_jax import cli
from codi_jax.checkpoint import load_params, save_params
from codi_jax.config import ConfigError
from codi_jax.interop import lora as files
from codi_jax.nn import lora
from codi_jax.optim import merge
from codi_jax.parallel import make_mesh, paths
from codi_jax.train.program import check_objectives
from codi_jax.train.recipe import open_run, save_config
from codi_jax.train.stage import Stage
from codi_jax.train.trainer import train
from codi_jax.train.variables import all_adapters, assemble, make_sharding_fn, variables_of
from codi_jax.train.weights_record import record_weights
from tests import toy
from tests.train import finished

STAGE = "lora.text"
WATCHED = {
    "validation": {"source": "val", "every": 2},
    "samples": {"source": "val", "every": 4, "prompt": "text", "n": 2},
}
RULES = ("text_unet/.*/(query|value)/kernel", ("text_unet/.*/layer_in/kernel", 3))


def config(lora=None, **changes):
    """A recipe of one stage, which adapts the toy's packaged model; `changes` are of the stage or of all the config."""
    tree = toy.config().to_dict()
    adapters = {"lora": {"rules": RULES, "rank": 2, **(lora or {})}, "trainable": ()}
    stage = {**tree["stages"]["ldm"]["text"], "source": "text+image", "depends_on": (), **adapters}
    top = {key: changes.pop(key) for key in tuple(changes) if key in tree}
    return {**tree, "weights": str(toy.random_package()), "stages": {"lora": {"text": stage | changes}}, **top}


def trained(workdir, **changes):
    run = open_run(config(**changes), workdir)
    train(run, quiet=True)
    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished run that keeps adapters apart; read-only."""
    workdir = tmp_path_factory.mktemp("kept")
    save_config(toy.ConfigDict(config()), workdir)
    return trained(workdir, **WATCHED)


def saved(run):
    return load_params(str(run.directory(STAGE) / "params"))


def base(run):
    return assemble(run, (), tuple(run.codi.component_names()))["params"]


def test_a_stage_saves_its_adapters_alone_and_the_base_stays_as_it_is(kept):
    tree, meta = saved(kept), kept.finished_meta(STAGE)
    assert set(tree) == {"lora"} and set(tree["lora"]) == {"text_unet"}
    assert (meta["components"], meta["adapters"]) == ([], ["text_unet"])
    ranks = {site: tree.shape[0] for site, tree in _matrices(tree["lora"], "lora_b").items()}
    assert {rank for site, rank in ranks.items() if site.endswith("layer_in")} == {3}
    assert {rank for site, rank in ranks.items() if not site.endswith("layer_in")} == {2}
    assert any(np.abs(b).max() > 0 for b in _matrices(tree["lora"], "lora_b").values())
    before, after = paths.flatten(base(kept)), paths.flatten(variables_of(kept)["params"])
    changed = {path for path, x in after.items() if not np.array_equal(x, before[path])}
    assert changed and changed <= {f"{site}/kernel" for site in ranks}
    assert toy.same(toy.params(kept.codi), before)


def _matrices(tree, leaf):
    return {p.removesuffix(f"/{leaf}"): x for p, x in paths.flatten(tree).items() if p.endswith(f"/{leaf}")}


def test_the_checkpoint_and_the_table_of_a_stage_hold_adapters_alone(kept, tmp_path, monkeypatch, capsys):
    stages = finished.record_stages(monkeypatch)
    run = open_run(config(), tmp_path)
    train(run, quiet=False)
    (stage,) = stages
    assert {path.split("/")[-1] for path in paths.flatten(stage.trees().params)} == {"lora_a", "lora_b"}
    size = lora.size(saved(run)["lora"])
    assert re.search(rf"text_unet +\d+ +{size:,} +trained", capsys.readouterr().out)
    assert toy.same(saved(run), saved(kept))  # neither validation nor samples change the training


def test_validation_and_samples_are_of_the_adapted_model(kept, tmp_path):
    """They are those of a stage that has the result as its base and has not trained yet."""
    tree = config(weights=str(kept.workdir), **WATCHED)
    tree["stages"]["lora"]["text"] |= {"lora": None, "trainable": ("text_unet/.*",)}
    stage = Stage(open_run(tree, tmp_path), STAGE)
    with jax.set_mesh(stage.mesh):
        stage.prepare()
        expected = stage.validation(stage.state, stage.frozen, stage.constants)
        texts = stage.samples(4, stage.state, stage.frozen, stage.constants)["text"]
    last = [line for line in rows(kept) if "validation/loss" in line][-1]
    for name, value in expected.items():
        np.testing.assert_allclose(last[name], value, rtol=1e-5)
    folder = kept.directory(STAGE) / "samples" / "00000004"
    assert [(folder / f"text_{i}.txt").read_text().strip() for i in range(2)] == [str(text) for text in texts]


def rows(run):
    return [json.loads(line) for line in (run.directory(STAGE) / "metrics.jsonl").read_text().splitlines()]


def test_an_interrupted_stage_ends_bit_identical(kept, tmp_path, monkeypatch):
    run = open_run(config(), tmp_path)

    def cut():
        raise finished.Interrupted

    with monkeypatch.context() as patch:
        finished.interrupt(patch, 3, cut)
        with pytest.raises(finished.Interrupted):
            train(run, quiet=True)
    train(run, quiet=True)
    assert toy.same(saved(run), saved(kept))


@pytest.mark.slow
def test_sharded_with_microbatches_is_as_replicated(tmp_path):
    split = {"mesh": {"data": 2, "fsdp": 4}, "sharding": {"fsdp_min_bytes": 256}}
    one = {"mesh": {"data": 2}} if jax.device_count() == 2 else {"mesh": {"data": 4, "tensor": 2}}
    runs = [trained(tmp_path / str(i), accumulate=2, batch_size=16, **mesh) for i, mesh in enumerate((one, split))]
    first, second = (paths.flatten(saved(run)) for run in runs)
    for path, x in first.items():
        np.testing.assert_allclose(x, second[path], rtol=2e-3, atol=2e-5, err_msg=path)
    kernels = [paths.flatten(variables_of(run)["params"]) for run in runs]
    for path, x in kernels[0].items():
        np.testing.assert_allclose(x, kernels[1][path], atol=2e-5, err_msg=path)
    mesh = make_mesh(runs[1].config.mesh)
    read = assemble(runs[1], (STAGE,), ("text_unet",), sharding_fn=make_sharding_fn(runs[1], mesh))["params"]
    (kernel,) = [x for path, x in paths.flatten(read).items() if path.endswith("inputs_1/residual/layer_in/kernel")]
    assert not kernel.sharding.is_fully_replicated  # an adapted one keeps its sharding
    for path, x in paths.flatten(read).items():
        np.testing.assert_allclose(x, kernels[1][path], atol=1e-6, err_msg=path)


def test_the_base_can_be_stored_in_half_precision_while_its_adapters_are_trained(tmp_path, monkeypatch):
    stages = finished.record_stages(monkeypatch)
    run = trained(tmp_path, precision=(("text_unet/.*/kernel", "bfloat16"),))
    kernels = [x.dtype for path, x in paths.flatten(stages[0].frozen["text_unet"]).items() if path.endswith("/kernel")]
    assert kernels and {str(dtype) for dtype in kernels} == {"bfloat16"}
    assert {str(x.dtype) for x in jax.tree.leaves(saved(run))} == {"float32"}
    assert any(np.abs(b).max() > 0 for b in _matrices(saved(run)["lora"], "lora_b").values())


def test_merged_components_are_those_of_adapters_kept_apart(kept, tmp_path):
    run = trained(tmp_path, lora={"merge": True})
    tree = saved(run)
    assert set(tree) == {"params"} and run.finished_meta(STAGE)["components"] == ["text_unet"]
    assert not run.adapter_sources((STAGE,))
    assert toy.same(tree["params"]["text_unet"], variables_of(kept)["params"]["text_unet"])
    with pytest.raises(ConfigError, match=r"no finished stage of this run keeps adapters apart \(stages\.\*\.lora\)$"):
        all_adapters(run)


def test_adapters_of_the_run_in_config_weights_are_added(kept, tmp_path):
    run = open_run(config(weights=str(kept.workdir)), tmp_path)
    assert toy.same(base(run), variables_of(kept)["params"])
    train(run, quiet=True)  # a second adapter, on top of the first
    both = all_adapters(run)
    ranks = {site: b.shape[0] for site, b in _matrices(both, "lora_b").items()}
    assert set(ranks.values()) == {4, 6}
    expected = lora.apply(merge({"text_unet": base(kept)["text_unet"]}, both))
    assert toy.same(variables_of(run)["params"]["text_unet"], expected["text_unet"])
    alone = open_run({**config(weights=str(kept.workdir)), "initialized": ("text_unet",)}, tmp_path / "alone")
    assert not alone.adapter_sources(())


def test_a_change_of_the_adapters_in_config_weights_is_refused(kept, tmp_path):
    copy = tmp_path / "copy"
    save_config(toy.ConfigDict(config()), copy)
    source = open_run(config(), copy)

    def save(value):
        tree = jax.tree.map(lambda x: np.asarray(x * value), saved(kept))
        save_params(str(source.directory(STAGE) / "params"), tree, kept.finished_meta(STAGE))

    def started():
        run = open_run(config(weights=str(copy)), tmp_path / "run")
        record_weights(run)
        return run.fingerprint((), {})

    (tmp_path / "run").mkdir()
    save(1.0)
    before = started()
    assert started() == before
    save(2.0)
    with pytest.raises(ConfigError, match=r"^config\.weights: text_unet in .* changed since this run was started"):
        started()
    (tmp_path / "run" / "weights.json").unlink()
    assert started() != before


def test_a_pipeline_of_the_package_with_adapters_is_that_of_the_run(kept, tmp_path):
    bare, of_run = codi_jax.load(toy.random_package()), codi_jax.load(kept.workdir)
    adapted = codi_jax.load(toy.random_package(), adapters=kept.workdir)
    before = _latents(bare)
    np.testing.assert_array_equal(_latents(adapted), _latents(of_run))
    assert np.abs(_latents(adapted) - before).max() > 0

    cli.main(["export", f"--workdir={kept.workdir}", "--lora", f"--out={tmp_path}"])
    file = tmp_path / files.NAME
    np.testing.assert_allclose(_latents(bare.with_adapters(file)), _latents(of_run), atol=1e-5)
    np.testing.assert_array_equal(_latents(bare.with_adapters({file: 0})), before)
    halves = bare.with_adapters({file: 0.5}).with_adapters({str(file): 0.5})
    np.testing.assert_allclose(_latents(halves), _latents(of_run), atol=1e-5)
    both = bare.with_adapters({file: 3.0, kept.workdir: -2.0})
    np.testing.assert_allclose(_latents(both), _latents(of_run), atol=1e-4)
    np.testing.assert_array_equal(_latents(bare), before)


def _latents(pipe):
    return np.asarray(pipe(None, "text", decode=False).latents["text"])


def test_generating_with_adapters_on_the_command_line(kept, tmp_path, capsys):
    command = ["generate", f"--model={toy.random_package()}", "--to=text"]
    cli.main([*command, f"--out={tmp_path / 'a'}", f"--lora={kept.workdir}:0.5", f"--lora={kept.workdir}/"])
    assert (tmp_path / "a" / "text_0.txt").exists()
    for options, message in (
        ([f"--lora={tmp_path / 'absent'}"], f"{tmp_path / 'absent'}: there is no such file"),
        ([f"--lora={kept.workdir}", f"--lora={kept.workdir}:2"], f"--lora: {kept.workdir} is given twice"),
        ([f"--lora={kept.workdir}:nan"], f"weight of {kept.workdir}: expected a number, got nan"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            cli.main([*command, f"--out={tmp_path / 'b'}", *options])
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_release_is_not_exported_without_the_adapters_of_a_run(kept, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", f"--workdir={kept.workdir}", f"--out={tmp_path}"])
    assert stop.value.code == 2 and "adapters of text_unet are kept apart" in capsys.readouterr().err


def test_adapters_with_constants_of_their_own_are_read_but_not_exported(kept, tmp_path):
    run = open_run(config(), tmp_path)
    constants = {"text_codec": {"scale": np.full(16, 5.0, np.float32)}}
    tree = lora.init(jax.random.key(0), {"text_codec": run.codi.shapes("text_codec")}, {"text_codec/moments/kernel": 1})
    meta = {**kept.finished_meta(STAGE), "adapters": ["text_codec"]}
    save_params(str(run.directory(STAGE) / "params"), {"lora": tree, "constants": constants}, meta)
    np.testing.assert_array_equal(assemble(run, (STAGE,))["constants"]["text_codec"]["scale"], 5.0)
    with pytest.raises(ConfigError, match="the constants of text_codec changed with the adapters"):
        all_adapters(run)


def test_adapters_that_do_not_fit_the_model_are_named_with_their_directory(kept, tmp_path):
    run = open_run(config(), tmp_path)
    tree = jax.tree.map(lambda x: np.repeat(x, 2, axis=-1) if x.ndim == 2 else x, saved(kept))
    save_params(str(run.directory(STAGE) / "params"), tree, kept.finished_meta(STAGE))
    with pytest.raises(
        ConfigError, match=r"lora\.text/params: text_unet/\S+ has A \[\d+, \d+\] and B \[\d+, \d+\] for a"
    ):
        variables_of(run)


@pytest.mark.slow
def test_environment_encoders_and_cross_modal_attention_are_adapted_by_latent_alignment(tmp_path):
    rules = ("image_environment/.*/layer_in/kernel", "text_cross/.*/(query|key)/kernel", "image_cross/.*/value/kernel")
    tree = config()
    stage = toy.config().to_dict()["stages"]["joint"]["text+image"]
    stage |= {"source": "text+image", "depends_on": (), "trainable": (), "lora": {"rules": rules, "rank": 2}}
    run = open_run({**tree, "stages": {"lora": {"text": stage}}}, tmp_path)
    train(run, quiet=True)
    moved = {site for site, b in _matrices(saved(run)["lora"], "lora_b").items() if np.abs(b).max() > 0}
    assert {site.split("/")[0] for site in moved} == {"image_environment", "text_cross", "image_cross"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"trainable": ("text_unet/.*",)},
            r"^config\.stages\.lora\.text\.lora: adapters alone are trained; leave out trainable$",
        ),
        (
            {"lora": {"rules": ("text_nuet/.*",)}},
            r"^config\.stages\.lora\.text\.lora\.rules: 'text_nuet/\.\*' matches no",
        ),
        ({"lora": {"rank": 99}}, r"^config\.stages\.lora\.text\.lora\.rules: rank 99 for text_unet/"),
        ({"lora": {"rank": "4"}}, r"lora\.rank: expected int, got '4'$"),
        ({"lora": {"rules": "text_unet/.*"}}, r"lora\.rules: expected a sequence, got 'text_unet/\.\*'$"),
    ],
)
def test_adapters_that_do_not_fit_are_refused_before_training(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run = open_run(config(**changes), tmp_path)
        check_objectives(run, run.order)


def test_a_component_without_weights_is_not_adapted(tmp_path):
    run = open_run({**config(), "initialized": ("text_unet",)}, tmp_path)
    with pytest.raises(ConfigError, match=r"^config\.stages\.lora\.text: reads text_unet, which neither"):
        train(run, quiet=True)
