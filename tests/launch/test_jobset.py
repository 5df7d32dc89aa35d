"""The JobSet: what its API asks for is there, and its policies, read as Kubernetes reads them, restart what they ought.

The rules of the two controllers are short. Job (pods never restarted in place, a podFailurePolicy, no backoff): the
first rule that matches a failed pod's exit code or condition decides, and FailJob fails the job for the reason
PodFailurePolicy; without one the pod counts against the backoff limit, and the job fails for BackoffLimitExceeded.
JobSet: the first rule of its failurePolicy that names the reason decides, RestartJobSet where none does; a restart that
counts is given at most maxRestarts times.
"""

import re
from pathlib import Path

import pytest
import yaml

TEXT = (Path(__file__).parents[2] / "launch" / "jobset.yaml").read_text()
JOBSET = yaml.safe_load(TEXT)
(WORKERS,) = JOBSET["spec"]["replicatedJobs"]
JOB = WORKERS["template"]["spec"]
POD = JOB["template"]["spec"]
(TRAIN,) = POD["containers"]

ACTIONS = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}
REASONS = {
    *("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"),
}


def matches(rule, code, condition):
    if "onExitCodes" in rule:
        given = rule["onExitCodes"]
        assert given["operator"] in ("In", "NotIn") and given["containerName"] == TRAIN["name"]
        return code not in (0, None) and (code in given["values"]) == (given["operator"] == "In")
    return any(c["type"] == condition and c["status"] == "True" for c in rule["onPodConditions"])


def why_the_job_fails(code, condition=None):
    """The reason of a job one of whose pods ended so; None if it does not fail."""
    if code == 0:
        return None
    for rule in JOB["podFailurePolicy"]["rules"]:
        if matches(rule, code, condition):
            assert rule["action"] == "FailJob"
            return "PodFailurePolicy"
    assert JOB["backoffLimit"] == 0
    return "BackoffLimitExceeded"


def outcome(*ends):
    """What becomes of a JobSet whose runs end so, one after the other."""
    counted = 0
    for end in ends:
        reason = why_the_job_fails(*end)
        if reason is None:
            return "Completed"
        rules = JOBSET["spec"]["failurePolicy"]["rules"]
        action = next((r["action"] for r in rules if reason in r["onJobFailureReasons"]), "RestartJobSet")
        if action == "FailJobSet":
            return "Failed"
        if action == "RestartJobSet":
            counted += 1
            if counted > JOBSET["spec"]["failurePolicy"]["maxRestarts"]:
                return "Failed"
    return "restarted"


def test_what_the_api_asks_for():
    assert (JOBSET["apiVersion"], JOBSET["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", JOBSET["metadata"]["name"])
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", WORKERS["name"])
    for rule in JOBSET["spec"]["failurePolicy"]["rules"]:
        assert rule.keys() == {"name", "action", "onJobFailureReasons"}
        assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"]) and rule["action"] in ACTIONS
        assert set(rule["onJobFailureReasons"]) <= REASONS
    assert POD["restartPolicy"] == "Never"  # which a podFailurePolicy needs
    assert JOB["completionMode"] == "Indexed"  # so that each pod has its number
    assert TRAIN["image"] and TRAIN["command"][:2] == ["codi-jax", "train"]


def test_a_pod_for_every_host_of_the_slice():
    topology = POD["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    rows, columns = map(int, topology.split("x"))
    chips = TRAIN["resources"]["limits"]["google.com/tpu"]
    assert JOB["parallelism"] == JOB["completions"] == rows * columns // chips == 64


def test_every_placeholder_is_explained():
    used = {word for word in re.findall(r"\b[A-Z]{5,}\b", yaml.safe_dump(JOBSET))}
    assert used == {"IMAGE", "WORKDIR", "CONFIG"} == set(re.findall(r"^#   ([A-Z]{5,}) ", TEXT, re.MULTILINE))


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([(0,)], "Completed"),
        ([(75,)] * 100, "restarted"),
        ([(75,)] * 100 + [(0,)], "Completed"),
        ([(143, "DisruptionTarget")] * 100, "restarted"),  # its node was taken away
        ([(1,)] * 3, "restarted"),
        ([(1,)] * 4, "Failed"),
        ([(137,), (75,), (2,), (75,), (69,), (75,), (1,)], "Failed"),
    ],
)
def test_restarts(ends, expected):
    assert outcome(*ends) == expected
