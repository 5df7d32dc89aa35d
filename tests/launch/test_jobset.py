"""launch/jobset.yaml: required fields, and the restarts that its policies give.

The tests simulate both controllers. Job (pods never restarted in place, a podFailurePolicy, no backoff): the first rule
that matches a failed pod's exit code or condition applies, and FailJob fails the job with reason PodFailurePolicy; if
none matches, the pod counts against the backoff limit, and the job fails with BackoffLimitExceeded. JobSet: the first
rule of its failurePolicy with the reason applies, or else RestartJobSet; there are at most maxRestarts such restarts.
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
        codes = rule["onExitCodes"]
        assert codes["operator"] in ("In", "NotIn") and codes["containerName"] == TRAIN["name"]
        return code not in (0, None) and (code in codes["values"]) == (codes["operator"] == "In")
    return any(c["type"] == condition and c["status"] == "True" for c in rule["onPodConditions"])


def failure_reason(code, condition=None):
    """The reason for which a job fails after a pod's exit code or condition; None if it does not fail."""
    if code == 0:
        return None
    for rule in JOB["podFailurePolicy"]["rules"]:
        if matches(rule, code, condition):
            assert rule["action"] == "FailJob"
            return "PodFailurePolicy"
    assert JOB["backoffLimit"] == 0
    return "BackoffLimitExceeded"


def outcome(*ends):
    """The state of a JobSet after runs with these ends."""
    restarts = 0
    for end in ends:
        reason = failure_reason(*end)
        if reason is None:
            return "Completed"
        rules = JOBSET["spec"]["failurePolicy"]["rules"]
        action = next((r["action"] for r in rules if reason in r["onJobFailureReasons"]), "RestartJobSet")
        if action == "FailJobSet":
            return "Failed"
        if action == "RestartJobSet":
            restarts += 1
            if restarts > JOBSET["spec"]["failurePolicy"]["maxRestarts"]:
                return "Failed"
    return "restarted"


def test_required_fields():
    assert (JOBSET["apiVersion"], JOBSET["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", JOBSET["metadata"]["name"])
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", WORKERS["name"])
    for rule in JOBSET["spec"]["failurePolicy"]["rules"]:
        assert rule.keys() == {"name", "action", "onJobFailureReasons"}
        assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"]) and rule["action"] in ACTIONS
        assert set(rule["onJobFailureReasons"]) <= REASONS
    assert POD["restartPolicy"] == "Never"  # required by podFailurePolicy
    assert JOB["completionMode"] == "Indexed"  # so that each pod has an index
    assert TRAIN["image"] and TRAIN["command"][:2] == ["codi-jax", "train"]


def test_one_pod_per_host_of_the_slice():
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
        ([(143, "DisruptionTarget")] * 100, "restarted"),  # node disruption
        ([(1,)] * 3, "restarted"),
        ([(1,)] * 4, "Failed"),
        ([(69,)] * 100, "restarted"),
        ([(137,), (75,), (2,), (75,), (1,), (69,), (1,)], "Failed"),
    ],
)
def test_restarts(ends, expected):
    assert outcome(*ends) == expected
