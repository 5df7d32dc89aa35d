"""Plans: compiled rows, bounds by hand, suggestions that fit, the cache."""

import importlib.util
import json
import os
import types

import jax
import jax.numpy as jnp
import pytest

from codi_jax import cli
from codi_jax.config import ConfigError
from codi_jax.exit_codes import EXIT_BAD_INPUT
from codi_jax.objectives.base import LossTerms
from codi_jax.parallel import MeshConfig, ShardingConfig, make_mesh
from codi_jax.parallel.chips import CHIPS, GIB, Chip, chip_of, chip_of_kind
from codi_jax.parallel.flops import Flops, Product, count
from codi_jax.plan import cache, fit, row, run, shapes, sweep, target
from codi_jax.plan.shapes import bytes_per_device, step_of
from codi_jax.plan.target import Target
from codi_jax.train.recipe import open_run, save_config
from tests import toy

STAGE = "codec.text"
CHIP = Chip(flops=1e6, memory=1e6, bandwidth=1e3, interconnect=500.0, devices=2)


def silent(what):
    pass


@pytest.fixture(scope="module")
def recipe():
    return open_run(toy.config(), None)


@pytest.fixture(scope="module")
def planned(recipe):
    """The row of a stage on eight virtual devices."""
    return row.compiled_row(recipe, STAGE, target.virtual(8), recipe.config.mesh, 8, silent)


def test_memory_and_traffic_of_a_real_program(recipe, planned):
    """Compared with the arguments of the step; test_shapes compares these with those of the loop."""
    _, (state, *others) = step_of(recipe, STAGE, make_mesh(recipe.config.mesh), 8)
    held, state_bytes = bytes_per_device((state, *others)), bytes_per_device(state)
    # Constants, which this step does not read, are in memory all the same.
    assert planned["hbm"]["arguments"] == held + 8  # and the key
    assert planned["hbm"]["temporaries"] > 0
    # The next state aliases the state; the other results are the metrics.
    results = planned["hbm"]["peak"] - planned["hbm"]["arguments"] - planned["hbm"]["temporaries"]
    assert 0 <= results < 0.05 * state_bytes
    # Every device has gradients of all parameters, which are all-reduced.
    assert planned["collectives"]["all-reduce"]["bytes"] >= bytes_per_device(state.params)
    assert planned["traffic"]["memory"] > 2 * state_bytes


def test_entries_of_a_row(planned):
    assert (planned["stage"], planned["topology"], planned["chips"]) == (STAGE, "cpu:8", 8)
    assert planned["mesh"] == {
        "data": 1,
        "fsdp": 8,
        "tensor": 1,
        "context": 1,
    }  # by default fsdp takes up to 64
    assert planned["batch_per_chip"] == 1
    assert planned["flops_per_step"] == planned["unit_flops_per_step"] == planned["model_flops_per_step"] > 0
    # The peaks of a CPU are unknown.
    assert planned["bound_seconds"] is planned["mfu_bound"] is planned["fits"] is planned["hbm"]["limit"] is None
    assert json.loads(json.dumps(planned)) == planned
    assert planned["notes"] == []


def test_bounds_by_hand():
    slice_of_two = Target("two", "tpu", (None,) * 4, CHIP)
    got = row.bound(4e6, 8e6, 10, {"memory": 1000.0, "interconnect": 750.0}, slice_of_two)
    # 8 MFLOP on two chips of 1 MFLOP/s, half of them of the model; 2 · 1 kB through 1 kB/s; 2 · 750 B through 500 B/s.
    assert got["seconds"] == {"compute": 4.0, "memory": 2.0, "interconnect": 3.0}
    assert (got["bound_seconds"], got["mfu_bound"]) == (4.0, 0.5)
    assert got["samples_per_chip_hour"] == 3600 * 10 / 2 / 4
    slower = row.bound(2e6, 2e6, 10, {"memory": 1000.0, "interconnect": 750.0}, slice_of_two)
    assert (slower["bound_seconds"], slower["mfu_bound"]) == (3.0, pytest.approx(1 / 3))


def test_flops_of_the_model_leave_out_what_is_computed_again(recipe):
    name, eight, mesh = "ldm.image", target.virtual(8), recipe.config.mesh
    again = fit.with_remat(recipe, "blocks")
    grid = make_mesh(mesh)
    program, arguments = step_of(again, name, grid, 8)
    with jax.set_mesh(grid):
        flops = count(program.step.trace(*arguments).jaxpr)
    plain = row.counted(recipe, name, eight, mesh, 8)
    assert flops.total > 1.1 * plain
    assert row._model_flops(again, name, flops, eight, mesh, 8) == plain


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (31.25G) "
            "exceeds available HBM (15.75G).",
            31.25 * GIB,
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (1.50T) "
            "exceeds available HBM (15.75G).",
            1536 * GIB,
        ),
        ("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Used 17.50G of 15.75G hbm. Exceeded by", 17.5 * GIB),
        ("RESOURCE_EXHAUSTED: in some other words", None),
    ],
)
def test_memory_is_read_from_the_message_of_the_compiler(message, needed):
    products = (
        Product("unet/inputs_1/self/dot_general", "float32[4,8,64]", 2, 1e9, 2.0 * GIB),
        Product("jvp(unet)/inputs_12/self/dot_general", "float32[4,8,32]", 2, 1e9, 1.0 * GIB),
    )
    devices = (types.SimpleNamespace(memory_stats=lambda: None),) * 4
    got = row._refused(message, GIB, Flops(4e9, (), products), Target("v5e:2x2", "tpu", devices, CHIPS["v5e"]))
    group = {"what": "inputs/self/dot_general", "array": "float32[4,8,64]", "count": 4, "bytes": 0.75 * GIB}
    assert got["largest"] == {"of": "results", "groups": [group]}
    assert got["fits"] is False and got["bound_seconds"] is None
    assert got["hbm"] == {
        "arguments": GIB,
        "temporaries": needed and needed - GIB,
        "peak": needed,
        "limit": 15.75 * GIB,
    }


def refused(recipe, limit, temporaries, mesh, batch):
    """A row that does not fit, and its slice of eight devices."""
    chip = Chip(1e6, limit, 1e3, 500.0)
    arguments = fit.held(recipe, STAGE, mesh, batch)
    memory = {"arguments": arguments, "temporaries": temporaries, "peak": arguments + temporaries, "limit": limit}
    row = {"stage": STAGE, "mesh": mesh, "batch_size": batch, "remat": "none", "hbm": memory}
    return row, Target("x", "tpu", (None,) * 8, chip)


def test_suggestions_that_fit():
    config = toy.config()
    with config.unlocked():
        config.sharding = {"fsdp_min_bytes": 256}
    recipe = open_run(config, None)
    mesh = {"data": 8, "fsdp": 1, "tensor": 1, "context": 1}
    halved = {**mesh, "data": 4, "fsdp": 2}
    whole, half = (fit.held(recipe, STAGE, m, 64) for m in (mesh, halved))
    assert half < 0.7 * whole
    # The state fits, and a third of the temporaries: a quarter of the batch.
    too_much = refused(recipe, whole + 100_000, 300_000, mesh, 64)
    assert fit.changes(recipe, *too_much) == [(mesh, 16, "none")]
    (line,) = fit.nearest(recipe, *too_much)
    assert line.startswith("batch_size=16 (estimated: ")
    # The whole state is too large; sharded over two devices it fits with all temporaries.
    (line,) = fit.nearest(recipe, *refused(recipe, half + 50_000, 50_000, mesh, 64))
    assert line.startswith("mesh.data=4 mesh.fsdp=2 (estimated: ")
    # Only both together.
    (line,) = fit.nearest(recipe, *refused(recipe, half + 2_000, whole, mesh, 64))
    assert line.startswith("batch_size=") and " and mesh.data=" in line
    assert "use a larger one" in fit.nearest(recipe, *refused(recipe, 1_000, 50_000, mesh, 64))[0]


def test_remat_keeps_less_and_is_suggested_where_it_helps(recipe):
    """Only U-Nets and towers support remat; a codec keeps all activations either way."""
    assert fit.remat_keeps(recipe, STAGE) == 1.0
    kept = fit.remat_keeps(recipe, "ldm.image")
    assert 0 < kept < 0.8
    mesh = {"data": 8, "fsdp": 1, "tensor": 1, "context": 1}
    arguments, temporaries = fit.held(recipe, "ldm.image", mesh, 8), 1e6
    limit = arguments + (kept + 0.01) * temporaries
    refused_row = {"stage": "ldm.image", "mesh": mesh, "batch_size": 8, "remat": "none"}
    refused_row["hbm"] = {
        "arguments": arguments,
        "temporaries": temporaries,
        "peak": arguments + temporaries,
        "limit": limit,
    }
    lines = fit.nearest(recipe, refused_row, Target("x", "tpu", (None,) * 8, Chip(1e6, limit, 1e3, 500.0)))
    assert lines[-1].startswith("model.remat=blocks (estimated: ")


def test_residuals_of_a_loss_by_hand(recipe, monkeypatch):
    """Σ exp(w x) of rows of 3 numbers: exp(w x), which is its own derivative, and x; w itself cancels."""

    def loss(variables, batch, key):
        return LossTerms(jnp.exp(variables["params"]["w"] * batch).sum(), {})

    objective = types.SimpleNamespace(loss=loss, batch_multiple=1)
    arguments = lambda rows: (  # noqa: E731
        types.SimpleNamespace(params={"w": jax.ShapeDtypeStruct((3,), "float32")}),
        {},
        {},
        jax.ShapeDtypeStruct((rows, 3), "float32"),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    monkeypatch.setattr(shapes, "_parameters", lambda *a: (objective, None, None))
    monkeypatch.setattr(shapes, "step_of", lambda run, name, grid, rows: (None, arguments(rows)))
    assert shapes.kept_for_backward(recipe, STAGE) == 2 * 3 * 4


def test_meshes_and_ranking():
    plain = ShardingConfig()
    assert [(m["data"], m["fsdp"]) for m in sweep.meshes(8, plain)] == [(8, 1), (4, 2), (2, 4), (1, 8)]
    assert max(m["fsdp"] for m in sweep.meshes(256, plain)) == 64
    named = ShardingConfig(rules=((".*/kernel", (None, ("tensor",))),))
    assert {"data": 2, "fsdp": 2, "tensor": 2, "context": 1} in list(sweep.meshes(8, named))
    speeds = [(100.0, 64), (99.0, 16), (50.0, 4), (98.5, 32)]
    rows = [{"samples_per_chip_hour": s, "batch_size": b, "peak": 0} for s, b in speeds]
    assert [e["batch_size"] for e in sweep.ranked(rows)] == [16, 32, 64, 4]


def test_a_sweep_ranks_by_speed_what_fits(recipe, planned):
    # Only the interconnect limits, and memory is unlimited: the largest batch wins.
    unlimited = Target("x", "tpu", (None,) * 8, Chip(1e15, 1e12, 1e12, 1e6))
    reference = planned | {"hbm": planned["hbm"] | {"limit": 1e12}}
    best = sweep.estimates(recipe, reference, unlimited)
    assert best[0]["batch_size"] == max(e["batch_size"] for e in best) == 4 * 8
    assert len(sweep.candidates(recipe, reference, unlimited)) == 2
    # Hardly more memory than the reference needs: larger batches do not fit.
    limited = planned | {"hbm": planned["hbm"] | {"limit": planned["hbm"]["peak"] + 5_000}}
    assert {e["batch_size"] for e in sweep.estimates(recipe, limited, unlimited)} == {8}


def test_a_sweep_of_devices_without_known_peaks_ranks_by_those_of_a_nominal_chip(recipe, planned):
    eight = target.virtual(8)
    best = sweep.estimates(recipe, planned, eight)
    rates = [entry["samples_per_chip_hour"] for entry in best]
    assert rates[0] >= 0.98 * max(rates) > 0 and {entry["mesh"]["fsdp"] for entry in best} == {1, 2, 4, 8}
    others = sweep.candidates(recipe, planned, eight)
    assert [batch for _, _, batch in others] == [entry["batch_size"] for entry in best[:2]]


def test_the_nearest_change_that_fits_is_compiled(monkeypatch):
    """A change that the compiler refuses in spite of its estimate is followed by the next one."""
    config = toy.config()
    with config.unlocked():
        config.sharding = {"fsdp_min_bytes": 256}
    recipe = open_run(config, None)
    mesh = {"data": 8, "fsdp": 1, "tensor": 1, "context": 1}
    limit = fit.held(recipe, STAGE, mesh, 64) + 100_000
    compiled = []

    def compile(run_, name, where, config, batch, progress):
        compiled.append((config.data, config.fsdp, batch))
        made, _ = refused(recipe, limit, 300_000, mesh, batch)
        made |= {"fits": config.fsdp == 2, "samples_per_chip_hour": None, "mesh": mesh, "batch_size": batch}
        return made

    monkeypatch.setattr(run, "compiled_row", compile)
    chosen = [(mesh, 16, "none"), ({**mesh, "data": 4, "fsdp": 2}, 64, "none"), (mesh, 64, "blocks")]
    monkeypatch.setattr(run, "changes", lambda *_: chosen)
    where = Target("x", "tpu", (None,) * 8, Chip(1e6, limit, 1e3, 500.0))
    rows = run.plan(recipe, (STAGE,), where, MeshConfig(data=8, fsdp=1), 64)
    assert compiled == [(8, 1, 64), (8, 1, 16), (4, 2, 64)]
    assert [row["fits"] for row in rows] == [False, False, True]


def test_the_cache_key_covers_everything_a_row_depends_on(recipe, planned, tmp_path, monkeypatch):
    eight, two = target.virtual(8), target.virtual(2)
    keys = [
        cache.key(recipe, STAGE, eight, MeshConfig(), 8),
        cache.key(recipe, STAGE, eight, MeshConfig(), 16),
        cache.key(recipe, STAGE, two, MeshConfig(), 8),
        cache.key(recipe, STAGE, eight, MeshConfig(fsdp=2), 8),
        cache.key(recipe, "codec.image", eight, MeshConfig(), 8),
    ]
    assert len(set(keys)) == len(keys)
    calls = []
    monkeypatch.setattr(run, "compiled_row", lambda *a: calls.append(a) or dict(planned))
    heard = []
    first = run.plan(recipe, (STAGE,), eight, MeshConfig(), directory=tmp_path, progress=heard.append)
    again = run.plan(recipe, (STAGE,), eight, MeshConfig(), directory=tmp_path, progress=heard.append)
    assert first == again and len(calls) == 1
    assert f"{STAGE} was compiled before" in heard[-1]
    (tmp_path / f"{keys[0]}.json").write_text("{torn")
    run.plan(recipe, (STAGE,), eight, MeshConfig(), directory=tmp_path)
    assert len(calls) == 2


def test_two_plans_may_add_the_same_row_at_the_same_time(tmp_path, monkeypatch):
    replace = os.replace

    def another_first(source, target):
        monkeypatch.setattr(os, "replace", replace)
        cache.write(tmp_path, "key", {"fits": True})
        replace(source, target)

    monkeypatch.setattr(os, "replace", another_first)
    cache.write(tmp_path, "key", {"fits": True})
    assert cache.read(tmp_path, "key") == {"fits": True} and os.listdir(tmp_path) == ["key.json"]


def test_the_cost_of_a_stage(recipe, planned):
    stage = recipe.stage(STAGE)
    got = run.training(recipe, STAGE, planned | {"samples_per_chip_hour": 2.0, "chips": 8})
    samples = stage.steps * stage.batch_size
    assert got == {"samples": samples, "chip_hours": samples / 2, "days": samples / 2 / 8 / 24}


def test_text_of_a_plan(recipe, planned):
    known = planned | row.bound(8e6, 8e6, 8, planned["traffic"], Target("x", "tpu", (None,) * 8, CHIP))
    known |= {"fits": False, "nearest": ["batch_size=4 (estimated)"], "training": run.training(recipe, STAGE, known)}
    text = run.shown([known, {**known, "stage": "codec.image"}])
    assert f"{STAGE} does not fit; would: batch_size=4 (estimated)" in text
    assert "all-reduce" in text and "fsdp 8" in text and "most of" in text and "all stages at their bounds: " in text
    unknown = run.shown([{**planned, "training": run.training(recipe, STAGE, planned)}])
    assert "all stages" not in unknown and "cpu:8, 8 chips" in unknown
    found = planned["largest"]
    assert found["of"] == "memory" and len(found["groups"]) == 3
    assert f"{found['groups'][0]['what']} {found['groups'][0]['array']} (" in unknown


def test_devices_of_this_machine(monkeypatch):
    gpu = types.SimpleNamespace(device_kind="NVIDIA L4", platform="gpu", memory_stats=lambda: {"bytes_limit": 18e9})
    monkeypatch.setattr(jax, "devices", lambda: [gpu] * 2)
    found = target.present()
    assert (found.name, found.platform, found.chips) == ("NVIDIA L4:2", "gpu", 2)
    assert found.chip is chip_of_kind("NVIDIA L4")
    assert row._limit(found) == 18e9  # what the allocator gives to a program, rather than all that is installed


def test_progress_is_reported_during_compilation():
    heard = []
    with run._heartbeat(heard.append, "still at it", every=0.01):
        while len(heard) < 2:
            pass
    assert heard[0].startswith("still at it, 0s so far")
    assert len(heard) == (after := len(heard)) and after >= 2


# The command line


@pytest.fixture
def workdir(tmp_path):
    save_config(toy.config(), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--topology=v5e:4x4", "--devices=2"], "--topology and --devices: use only one of them"),
        (["--topology=h100:8"], "topology 'h100:8': no chip 'h100'; there are v5e, v5p, v6e, tpu7x"),
        (["--topology=v5e:four"], "a slice is named as in 'v5e:4x4'"),
        (["--topology=v5e:4x4"], "--topology needs the TPU compiler, which is not installed: pip install"),
        (["--devices=0"], "--devices: expected a positive number, got 0"),
        (["--devices=64"], "--devices=64: this process has 8 CPU devices"),
        (["--devices=2", "--batch=0"], "--batch: expected a positive number, got 0"),
        (["--devices=2", "--batch=3"], "a batch of 3 cannot be split over 2 devices"),
        (
            ["--devices=2", "--mesh=data=2,rows=1"],
            "--mesh: expected AXIS=NUMBER,… with axes data, fsdp, tensor, context, got",
        ),
        (
            ["--devices=2", "--mesh=data=3"],
            "mesh(data=3, fsdp=0, tensor=1, context=1): the sizes make 3, but there are 2",
        ),
        (["--devices=2", "--stage=codec.smell"], "no stage 'codec.smell' in this recipe"),
        (["--devices=2", "--stage=encode.pairs"], "no stage 'encode.pairs'"),
    ],
)
def test_invalid_arguments_are_refused(capsys, monkeypatch, workdir, options, message):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as exit:
        cli.main(["plan", f"--workdir={workdir}", *options])
    err = capsys.readouterr().err
    assert exit.value.code == EXIT_BAD_INPUT
    assert message in err and err.count("\n") == 1, err


def test_the_plan_command(capsys, monkeypatch, planned, workdir):
    file, calls = workdir / "new" / "plan.json", []

    def compiled(*arguments):
        calls.append(arguments[1:-1])
        arguments[-1](f"compiling {STAGE}")
        return {**planned, "batch_size": 4}

    monkeypatch.setattr(run, "compiled_row", compiled)
    cli.main(
        [
            "plan",
            f"--workdir={workdir}",
            f"--stage={STAGE}",
            "--devices=2",
            "--batch=4",
            "--mesh=data=1,fsdp=-1",
            f"--json={file}",
        ]
    )
    out, err = capsys.readouterr()
    assert calls == [(STAGE, target.virtual(2), MeshConfig(data=1, fsdp=-1), 4)]
    (written,) = json.loads(file.read_text())
    assert written["stage"] == STAGE and written["training"]["samples"] == 4 * 8
    assert STAGE in out and f"compiling {STAGE}" in err


# TPU slices by topology description


@pytest.mark.parametrize(("name", "devices", "chips"), [("v5e:2x2", 4, 4), ("v5p:2x2x1", 4, 4), ("tpu7x:2x2x1", 8, 4)])
def test_devices_and_chips_of_a_slice(name, devices, chips):
    pytest.importorskip("libtpu")
    slice_ = target.tpu(name)
    assert (len(slice_.devices), slice_.chips) == (devices, chips)


def test_an_unknown_slice_is_refused():
    pytest.importorskip("libtpu")
    with pytest.raises(ConfigError, match="topology 'v5e:3x5': "):
        target.tpu("v5e:3x5")


def test_a_stage_compiled_for_a_slice(recipe):
    pytest.importorskip("libtpu")
    compiled = row.compiled_row(recipe, STAGE, target.tpu("v5e:2x2"), MeshConfig(), 8, silent)
    assert compiled["fits"] is True and compiled["hbm"]["limit"] == chip_of("v5e:2x2").memory
    assert compiled["bound_seconds"] == max(compiled["seconds"].values()) > 0
    assert compiled["collectives"]["all-reduce"]["count"] >= 1
    assert compiled["hbm"]["arguments"] <= compiled["hbm"]["peak"] < compiled["hbm"]["limit"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1"])
def test_memory_of_chips_is_what_the_compiler_allows(name):
    pytest.importorskip("libtpu")
    slice_ = target.tpu(name)
    mesh = jax.sharding.Mesh(slice_.devices, ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    huge = jax.ShapeDtypeStruct((2**18, 2**20), "float32", sharding=everywhere)  # a TiB
    with pytest.raises(jax.errors.JaxRuntimeError, match="exceeds available HBM") as error:
        jax.jit(lambda x: x * 2).trace(huge).lower(lowering_platforms=("tpu",)).compile()
    allowed = chip_of(name).memory / slice_.per_chip / GIB
    assert f"available HBM ({allowed:.2f}G)" in str(error.value)


def test_a_batch_that_no_chip_holds(recipe):
    pytest.importorskip("libtpu")
    described = target.tpu("v5e:2x2")
    compiled = row.compiled_row(recipe, STAGE, described, MeshConfig(), 2**24, silent)
    assert compiled["fits"] is False and compiled["bound_seconds"] is None
    assert compiled["hbm"]["peak"] > compiled["hbm"]["limit"]
    assert fit.nearest(recipe, compiled, described)[0].startswith("batch_size=")
