"""Workflows, issue forms and the check of a release: they parse, and name what exists."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codi_jax import __version__

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "feature")]
RELEASE = ROOT / ".ci" / "release.py"
INSTALLED = ("build", "pip")  # modules that a workflow installs, or every Python has
ELSEWHERE = ("codi-jax", "mkdir", "gh")  # the first is checked by test_commands.py

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
each_form = pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path):
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def targets():
    return set(re.findall(r"^([a-z_ ]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def unknown(command):
    """Whether a command of a workflow names what does not exist here."""
    words = shlex.split(command)
    if words[0] == "make":
        return words[1] not in {name for line in targets() for name in line.split()}
    if words[0] == "python":
        if words[1] == "-m":
            return words[2] not in INSTALLED and importlib.util.find_spec(words[2]) is None
        return not (ROOT / words[1]).is_file()
    return words[0] not in ELSEWHERE


@each_workflow
def test_a_workflow(path):
    workflow = read(path)
    assert {"name", True, "jobs"} <= workflow.keys()  # YAML 1.1 reads `on` as true
    for job in workflow["jobs"].values():
        assert job["runs-on"] and job["timeout-minutes"] and job["steps"]
        assert {*([job["needs"]] if "needs" in job else ())} <= workflow["jobs"].keys()
    for step in steps(path):
        assert len({"uses", "run"} & step.keys()) == 1
        commands = [part for line in step.get("run", "").splitlines() for part in line.split(" && ")]
        assert not [command for command in commands if unknown(command)]


@each_workflow
def test_actions_are_pinned_to_a_major_version(path):
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used and all(
        re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+(\.\d+)*|release/v\d+|[0-9a-f]{40})", name) for name in used
    )


def test_a_release_checks_before_it_publishes():
    workflow = read(GITHUB / "workflows" / "release.yml")
    jobs = workflow["jobs"]
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    lines = [step.get("run", "") for step in jobs["build"]["steps"]]
    check = next(i for i, line in enumerate(lines) if ".ci/release.py" in line)
    assert check < next(i for i, line in enumerate(lines) if line.startswith("make wheel"))
    assert all(job.get("needs") == "build" for name, job in jobs.items() if name != "build")
    assert workflow["permissions"] == {"contents": "read"}
    permissions = {name: job.get("permissions") for name, job in jobs.items()}
    assert permissions == {
        "build": None,
        "github": {"contents": "write"},
        "pypi": {"id-token": "write"},
        "images": {"contents": "read", "packages": "write"},
    }
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for row in jobs["images"]["strategy"]["matrix"]["include"]:
        assert re.search(rf"^FROM base AS {row['target']}$", text, re.MULTILINE)


def test_these_checks_find_errors():
    wrong = ("make no_such", "python -m no_such_module", "python no/such.py", "codijax doctor")
    assert all(unknown(command) for command in wrong) and not unknown("make test") and not unknown("python -m build")


def checked(tmp_path, tag, version="1.2.3", changes="# Changes\n\n## 1.2.3\n\nA line.\n\n## 1.2.2\n\nOlder.\n"):
    """Runs the check of a release in a small copy."""
    for name, text in {
        ".ci/release.py": RELEASE.read_text(),
        "codi_jax/__init__.py": f'__version__ = "{version}"\n',
        "CHANGELOG.md": changes,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, tmp_path / ".ci/release.py", tag], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_a_tag_of_this_version_has_notes(tmp_path):
    assert checked(tmp_path, "v1.2.3") == (0, "A line.\n", "")
    done = subprocess.run([sys.executable, RELEASE, f"v{__version__}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(done.stdout.splitlines()) > 5


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"tag": "v1.2.4"}, "the tag is v1.2.4, but the package is 1.2.3: tag it v1.2.3, or change __version__"),
        ({"tag": "1.2.3"}, "the tag is 1.2.3, but the package is 1.2.3: tag it v1.2.3, or change __version__"),
        (
            {"tag": "v1.2.4", "version": "1.2.4"},
            "CHANGELOG.md has nothing under '## 1.2.4': name the section of unreleased changes so",
        ),
        (
            {"tag": "v1.2.3", "changes": "## 1.2.3\n\n## 1.2.2\n\nOlder.\n"},
            "CHANGELOG.md has nothing under '## 1.2.3': name the section of unreleased changes so",
        ),
    ],
)
def test_what_is_not_released(tmp_path, given, line):
    assert checked(tmp_path, **given) == (1, "", f"{line}\n")


@each_form
def test_an_issue_form(path):
    form = read(path)
    assert {"name", "description", "body"} <= form.keys()
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert ("value" if part["type"] == "markdown" else "label") in part["attributes"]
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(ids)) == len(ids) > 0


@each_form
def test_links_of_a_form_lead_somewhere(path):
    """They are relative to the page of a new issue."""
    links = re.findall(r"\]\((.*?)\)", path.read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (
            link.startswith("../blob/HEAD/") and (ROOT / link.removeprefix("../blob/HEAD/").partition("#")[0]).is_file()
        )


def test_a_bug_comes_with_what_doctor_prints():
    parts = {part.get("id"): part for part in read(FORMS[0])["body"]}
    for name in ("doctor", "command"):
        assert parts[name]["validations"]["required"]
    assert "codi-jax doctor" in parts["doctor"]["attributes"]["label"] and "config" in parts


def test_the_chooser_of_issues_links_the_docs():
    chooser = read(GITHUB / "ISSUE_TEMPLATE" / "config.yml")
    assert chooser["blank_issues_enabled"] is False
    assert any(link["url"].startswith("https://") and "docs/" in link["about"] for link in chooser["contact_links"])


def test_a_pull_request_names_commands_that_exist():
    text = (GITHUB / "pull_request_template.md").read_text(encoding="utf-8")
    commands = [code for code in re.findall(r"`([^`]+)`", text) if code.startswith(("make ", "python "))]
    assert len(commands) >= 3 and not [command for command in commands if unknown(command)]
