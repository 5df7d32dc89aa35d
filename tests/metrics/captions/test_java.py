"""METEOR and SPICE where their programs are missing, and with a stand-in of pycocoevalcap and of `java`.

`tests/parity/oracles/test_caption_scores.py` runs METEOR itself.
"""

import importlib
import sys

import pytest

from codi_jax.metrics.base import compute
from codi_jax.metrics.captions import Captions
from codi_jax.metrics.captions.java import CORENLP, Meteor, Spice

SAMPLES = Captions(["a cat ||| sat", "b"], [["a cat sat", "cat"], ["c d"]])

# Sends its samples to `java`, one by one, and reads one score for each and one for all.
METEOR = """
import subprocess, threading
class Meteor:
    def __init__(self):
        pipe = subprocess.PIPE
        self.lock = threading.Lock()
        self.meteor_p = subprocess.Popen(["java", "-stdio"], stdin=pipe, stdout=pipe, stderr=pipe)
    def compute_score(self, gts, res):
        assert gts.keys() == res.keys()
        self.lock.acquire()  # never released if the program fails
        for i in gts:
            line = " ||| ".join(["SCORE", *gts[i], *res[i]])
            self.meteor_p.stdin.write(f"{line}\\n".encode())
        self.meteor_p.stdin.write(b"EVAL\\n")
        self.meteor_p.stdin.flush()
        each = [float(self.meteor_p.stdout.readline()) for _ in gts]
        total = float(self.meteor_p.stdout.readline())
        self.lock.release()
        return total, each
    def __del__(self):
        assert self.lock.acquire(timeout=1)
"""
SPICE = """
import json, subprocess
class Spice:
    def compute_score(self, gts, res):
        text = json.dumps([{"refs": gts[i], "test": res[i][0]} for i in sorted(gts)])
        out = subprocess.run(["java", "-spice"], input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
        each = [{"All": {"f": f}} for f in json.loads(out)]
        return sum(e["All"]["f"] for e in each) / len(each), each
"""
# Counts the captions of a sample.
JAVA = f"""#!{sys.executable}
import json, sys
if sys.argv[1] == "-spice":
    print(json.dumps([len(sample["refs"]) / 10 for sample in json.load(sys.stdin)]))
else:
    scores = []
    for line in sys.stdin:
        if line.startswith("EVAL"):
            print(*scores, max(scores), sep="\\n", flush=True)
        else:
            scores.append((line.count("|||") + line.count("cat")) / 10)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that puts `java` on PATH, and pycocoevalcap among the packages."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if "site-packages" not in p)])
    names = [name for name in sys.modules if name.startswith("pycocoevalcap")]
    for name in names:
        monkeypatch.delitem(sys.modules, name)

    def install(java=None, package=False):
        (tmp_path / "bin").mkdir(exist_ok=True)
        if java:
            (tmp_path / "bin" / "java").write_text(java)
            (tmp_path / "bin" / "java").chmod(0o755)
        if package:
            (tmp_path / "pycocoevalcap" / "meteor").mkdir(parents=True)
            (tmp_path / "pycocoevalcap" / "spice" / "lib").mkdir(parents=True)
            (tmp_path / "pycocoevalcap" / "meteor" / "meteor.py").write_text(METEOR)
            (tmp_path / "pycocoevalcap" / "spice" / "spice.py").write_text(SPICE)
        importlib.invalidate_caches()
        return tmp_path / "pycocoevalcap"

    yield install
    for name in [name for name in sys.modules if name.startswith("pycocoevalcap")]:
        del sys.modules[name]


@pytest.mark.parametrize(("metric", "name"), [(Meteor, "METEOR"), (Spice, "SPICE")])
def test_what_is_missing_is_named(metric, name, installed):
    installed()
    pip = r"the package pycocoevalcap \(pip install pycocoevalcap\)"
    with pytest.raises(
        ValueError, match=rf"^{name} needs pycocoevalcap and java: {pip} and the program java on PATH are"
    ):
        metric()
    installed(java=JAVA)
    with pytest.raises(ValueError, match=rf"java: {pip} is not there$"):
        metric()


def test_java_is_missing(installed):
    installed(package=True)
    with pytest.raises(
        ValueError, match=r"^METEOR needs pycocoevalcap and java: the program java on PATH is not there$"
    ):
        Meteor()


def test_meteor_reads_the_scores_of_the_program(installed):
    """The separator of the protocol is removed from a caption: two of them, and "cat" three times, then one."""
    installed(java=JAVA, package=True)
    metric = Meteor()
    state = metric.merge(
        *(metric.update(metric.init(), Captions(SAMPLES[0][i : i + 1], SAMPLES[1][i : i + 1])) for i in (0, 1))
    )
    total, each = metric.scores(state)
    assert total == 0.6 and each.tolist() == [0.6, 0.2]
    assert metric.compute(state) == {"meteor": 0.6, "n": 2}


@pytest.mark.parametrize("java", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho no memory\n"])
def test_a_program_that_fails_has_one_line(java, installed):
    installed(java=java, package=True)
    with pytest.raises(ValueError, match=r"^METEOR: the program of pycocoevalcap failed: .+$"):
        compute(Meteor(), [SAMPLES])


def test_spice_asks_for_its_files_and_reads_the_scores(installed):
    lib = installed(java=JAVA, package=True) / "spice" / "lib"
    with pytest.raises(
        ValueError, match=f"^SPICE needs {CORENLP[0]} and {CORENLP[1]} in .*get_stanford_models downloads"
    ):
        Spice()
    for name in CORENLP:
        (lib / name).touch()
    assert compute(Spice(), [SAMPLES]) == pytest.approx({"spice": 0.15, "n": 2})
