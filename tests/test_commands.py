"""Commands in README, docs, workflows and docstrings of configs are accepted, with their configs and all overrides.

The arguments are parsed by the program's own parser, and --config with its overrides makes a run; nothing is trained or
written. Of a command with a placeholder (…, NAME) only the config is checked.
"""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from codi_jax import storage
from codi_jax.cli.common import read_config, split_config
from codi_jax.cli.entry import make_parser
from codi_jax.cli.overrides import declare
from codi_jax.config import ConfigError
from codi_jax.config_utils import to_config_dict
from codi_jax.presets.digit_world import recipe
from codi_jax.train.program import check_objectives
from codi_jax.train.recipe import RunConfig, open_run
from tests import registries

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCSTRINGS = sorted((ROOT / "configs").glob("*.py"))
LAUNCHERS = ("launch/local_pod.py", "launch/tpu_queued_resource.sh", "launch/slurm.sbatch")
PLACEHOLDER = re.compile("…|\\[|NAME|WHERE|VERB")


def commands(text):
    """The commands of a document: the lines of code blocks, with their continuations, and code in its text."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [re.sub(r"\\\n\s*", "", block) for language, block in blocks if language in ("", "sh", "bash")]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += [code for code in re.findall(r"`(codi-jax [^`]+)`", rest) if "--config" in code]
    for line in "\n".join(lines).splitlines():
        for command in line.partition("  #")[0].split(" && "):
            if "codi-jax " in command or any(launcher in command for launcher in LAUNCHERS):
                yield shlex.split(command)


def of_the_program(words):
    """The arguments of `codi-jax` in a command; None if it is another one."""
    if any(word in LAUNCHERS for word in words):
        if "codi-jax" not in words:  # the script adds `train` to the arguments that are not its own
            own = [word for word in words if word.startswith(("--config", "--workdir"))]
            return ["train", *own, *(words[words.index("--") + 1 :] if "--" in words else ())]
        words = words[words.index("codi-jax") :]
    return words[1:] if words[0] == "codi-jax" else None


def found(documents):
    for path in documents:
        for words in commands(path.read_text(encoding="utf-8")):
            if (arguments := of_the_program(words)) and "--plugins" not in " ".join(arguments):
                yield pytest.param(arguments, id=f"{path.relative_to(ROOT)}: {' '.join(arguments)}")


def from_docstrings(paths):
    for path in paths:
        text = path.read_text(encoding="utf-8").split('"""')[1]
        for line in re.findall(r"^    codi-jax (.*?)(?:   .*)?$", text, re.MULTILINE):
            yield pytest.param(shlex.split(line), id=f"{path.name}: {line}")


def workflow_lines(path):
    """The lines that the steps of a workflow run."""
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
        yield from (line for step in job["steps"] for line in step.get("run", "").splitlines())


def from_workflows(paths):
    for path in paths:
        for line in workflow_lines(path):
            if line.startswith("codi-jax "):
                yield pytest.param(shlex.split(line)[1:], id=f"{path.name}: {line}")


@pytest.fixture(scope="module", autouse=True)
def plugins():
    """Those that configs name; they may have been imported, and their entries removed, by another test file."""
    with registries.polymnist():
        yield


@pytest.mark.parametrize("arguments", [*found(DOCUMENTS), *from_docstrings(DOCSTRINGS), *from_workflows(WORKFLOWS)])
def test_a_command_is_accepted(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "check_access", storage.as_path)  # without network
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("from configs.codi import get_config\n")
    complete = [word for word in arguments if not PLACEHOLDER.search(word)]
    stages, rest = [], complete[1:]
    if complete == arguments:
        args, rest = make_parser().parse_known_args(arguments)
        stages = args.stage if args.verb == "train" else []
        others = args.verb == "generate" or (args.verb == "data" and args.what == "inspect")  # prompts, paths
        assert others or not split_config(rest)[1]
    if config := split_config(rest)[0]:
        run = open_run(read_config(config), None)
        check_objectives(run, run.order)
        assert {*stages} <= {*run.order}


def test_documents_have_commands():
    assert len(list(found(DOCUMENTS))) > 20 and len(list(from_docstrings(DOCSTRINGS))) > 10
    assert len(list(from_workflows(WORKFLOWS))) > 1


def of_finetune(section):
    """The config that has a field of `config.data`."""
    source = "webdataset" if section == "data.shards" else "manifest"
    return read_config([f"--config=finetune:source={source}"])


def fields_in(text):
    return set(re.findall(r"`(?:--)?((?:config\.|stages\.S\.|model\.)[a-z_.A-Z]*[a-z_])(?:=[^`]*)?`", text))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_fields_that_a_document_names_exist(path):
    for name in fields_in(path.read_text(encoding="utf-8")):
        section = name.removeprefix("config.")
        for placeholder, value in (
            ("stages.S", "stages.ldm.image"),
            ("GROUP.NAME", "ldm.image"),
            ("NAME", "text+image"),
        ):
            section = section.replace(placeholder, value)
        config = of_finetune(section) if section.startswith("data.") else to_config_dict(recipe.run())
        declare(config, RunConfig, [f"--config.{section}=0"])


def test_these_checks_find_errors():
    (words,) = commands("```\ncodi-jax train --config=demo --config.mehs.fsdp=2\n```\n")
    with pytest.raises(ConfigError, match="unknown key"):
        read_config(split_config(of_the_program(words))[0])
    assert fields_in("`stages.S.accumulate=n`, `config.mesh` and `model.remat=dots`") == {
        "stages.S.accumulate", "config.mesh", "model.remat",
    }  # fmt: skip
