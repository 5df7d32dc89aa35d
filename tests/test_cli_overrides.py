"""Overrides on the command line: every field of the config classes, in every config of ours."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from codi_jax.cli.common import read_config
from codi_jax.cli.overrides import declare
from codi_jax.config import ConfigError, to_dict
from codi_jax.train.recipe import RunConfig, open_run


def config(name, *overrides):
    return read_config([f"--config={name}", *(f"--config.{override}" for override in overrides)])


def parsed(name, *overrides):
    return open_run(config(name, *overrides), None).config


def fields(value, path=""):
    """(path, value) of all fields of config classes in a parsed config, those inside of mappings included."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            yield f"{path}{field.name}", inner
            yield from fields(inner, f"{path}{field.name}.")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from fields(inner, f"{path}{key}.")


@pytest.mark.parametrize("name", ["codi", "demo", "finetune"])
def test_every_field_can_be_overridden_in_every_config(name):
    """By its own value, which changes nothing; a field that is None needs one of its type, see below."""
    before = parsed(name)
    given = {path: to_dict(value) for path, value in fields(before)}
    if name == "finetune":  # its model is that of a finished run, whose modalities have the fields of their time
        given = {path: value for path, value in given.items() if not path.startswith("model.modalities.")}
    own = [f"{path}={value}" for path, value in given.items() if value is not None and not isinstance(value, dict)]
    assert len(own) > 80 and {"mesh.fsdp=0", "seed=0", "sharding.context=()"} <= set(own)
    assert parsed(name, *own) == before


# fmt: off
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mesh.fsdp=8", 8),
        ("sharding.rules=(('a/.*', ('fsdp',)),)", (("a/.*", ("fsdp",)),)),
        ("model.remat=blocks", "blocks"),
        ("weights=gs://bucket/weights", "gs://bucket/weights"),
        ("compiler_options.xla_tpu_enable_latency_hiding_scheduler=true", True),
        ("generate.delay.image=3", 3),
        ("generate.guidance.image.prompt=3", 3.0),
        ("stages.ldm.image.accumulate=4", 4),
        ("stages.ldm.image.keep_last=2", 2),
        ("stages.ldm.image.offload=('ema', 'opt_state')", ("ema", "opt_state")),
        ("stages.ldm.image.precision=(('text_unet/.*', 'bfloat16'),)", (("text_unet/.*", "bfloat16"),)),
        ("stages.ldm.image.source=('ldm.text',)", ("ldm.text",)),
        ("stages.ldm.image.source=text+image", "text+image"),
        ("stages.ldm.image.init_from={'a': 'b'}", {"a": "b"}),
        ("stages.bridging.text+audio.steps=7", 7),
        ("stages.bridging['text+audio'].steps=7", 7),
        ("stages.bridging.text+audio.settings.ring=True", True),
        ("stages.ldm.image.settings.prompts.drop=0.5", 0.5),
        ("sources.text+image.truncate=0.5", 0.5),
    ],
)
def test_values(override, expected):
    path, _, _ = override.partition("=")
    tree = to_dict(parsed("codi", override))
    for key in path.replace("['", ".").replace("']", "").split("."):
        tree = tree[key]
    assert tree == expected and type(tree) is type(expected)
# fmt: on


def test_the_value_may_be_the_next_argument():
    tree = read_config(["--config", "codi", "--config.stages.bridging.text+audio.steps", "7"])
    assert tree.stages.bridging["text+audio"].steps == 7


def test_a_section_that_is_not_set_is_given_as_a_whole():
    prompts = "stages.ldm.image.samples={'source': 'text+image', 'every': 500, 'prompt': 'text'}"
    samples = parsed("codi", prompts).stages["ldm"]["image"].samples
    assert samples is not None and (samples.every, samples.prompt, samples.n) == (500, "text", 8)


def test_a_reference_between_fields_is_kept():
    """The sources of the config refer to `data`."""
    tree = config("finetune", "data.manifest=mine.csv", "data.columns.text=caption", "sources.image+text.root=files")
    assert {source.path for source in tree.sources.values()} == {"mine.csv"}
    assert {source.columns.text for source in tree.sources.values()} == {"caption"}
    assert {name for name, source in tree.sources.items() if source.root == "files"} == {"image+text"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mesh.fspd=2", "config.mesh.fspd: unknown key (did you mean fsdp?); MeshConfig knows data, fsdp, "),
        ("mehs.fsdp=2", "config.mehs: unknown key (did you mean mesh?); RunConfig knows model, "),
        ("stages.ldm.imag.steps=2", "config.stages.ldm.imag: unknown key (did you mean image?); there are audio, "),
        ("stages.bridging.text+adio.steps=2", "(did you mean text+audio?); there are text+audio, text+video"),
        ("stages.ldm.image.on_host=()", "config.stages.ldm.image.on_host is now called offload"),
        ("stages.ldm.image.steps.all=2", "config.stages.ldm.image.steps is 100000, which has no field 'all'"),
        ("stages.ldm.image.steps=many", "--config: flag --config.stages.ldm.image.steps=many"),
        ("stages.ldm.image.settings.prompts.dorp=2", "settings.prompts.dorp: unknown key (did you mean drop?)"),
        ("sources.text+image.sizes=2", "config.sources.text+image.sizes: unknown key (did you mean size?)"),
        ("data.manifest=a", "config.data.manifest: unknown key; there are none"),
        (
            "stages.ldm.image.samples.n=3",
            "config.stages.ldm.image.samples is not set: give all of it, --config.stages.ldm.image.samples="
            "{'source': …, 'every': …, 'prompt': …, 'n': …}",
        ),
    ],
)
def test_unknown_fields_are_named(override, message):
    with pytest.raises(ConfigError) as error:
        config("codi", override)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_former_name_in_the_config_is_renamed():
    tree = ConfigDict({"stages": {"a": {"b": {"on_host": ("ema",)}}}})
    declare(tree, RunConfig, ["--config.stages.a.b.offload=('opt_state',)"])
    assert tree.stages.a.b.to_dict() == {"offload": ("ema",)}
