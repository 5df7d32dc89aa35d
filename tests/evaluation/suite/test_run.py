"""A suite as a whole, with drawn values: every table, resumption, the same files again, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codi_jax.config import ConfigError
from codi_jax.data.decoded_source import truncate_caption
from codi_jax.diffusion.guidance import ClassifierFreeGuidance
from codi_jax.evaluation.networks import NETWORKS
from codi_jax.evaluation.settings import Settings
from codi_jax.evaluation.suite import page, paper
from codi_jax.evaluation.suite.generate import EMPTY
from codi_jax.evaluation.suite.run import run_suite
from codi_jax.evaluation.suite.settings import SuiteConfig
from codi_jax.output import Output
from codi_jax.parallel import MeshConfig, make_mesh, replicate
from codi_jax.pipeline import Pipeline
from codi_jax.sampling.config import GenerateConfig
from tests import toy
from tests.evaluation import made
from tests.evaluation.suite import sets

pytestmark = pytest.mark.usefixtures("restored_registries")

N = 4
CONFIG = GenerateConfig({name: ClassifierFreeGuidance() for name in toy.EVERYTHING}, steps=1, loop="host")


class Sums:
    """Four numbers of a file's bytes or of a text, for all modalities in one space."""

    modalities, features, joint, options = toy.EVERYTHING, ("embedding", "logits"), True, {}
    identity = "sums"

    def read(self, modality, content):
        data = (content.encode() if modality == "text" else Path(content).read_bytes()) + b"1234"
        return np.array([np.frombuffer(data, np.uint8)[k::4].mean() for k in range(4)], np.float32)

    def __call__(self, modality, inputs):
        return {name: list(inputs) for name in self.features}


@pytest.fixture(autouse=True)
def sums(restored_registries):
    """The network of the tests, as a plugin adds one."""
    NETWORKS.add("sums", lambda weights, settings: Sums())


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """One of each, with a missing clip, a silent video and a damaged image."""
    root = tmp_path_factory.mktemp("sets")
    out = {
        "coco": sets.coco(root / "coco", N),
        "audiocaps": sets.audiocaps(root / "audiocaps", N, missing=1),
        "msrvtt": sets.msrvtt(root / "msrvtt", N, silent=1),
        "ucf101": sets.ucf101(root / "ucf101", N),
    }
    (root / "coco" / "val2014" / "COCO_val2014_000000000002.jpg").write_bytes(b"\xff\xd8 not an image")
    return {name: str(path) for name, path in out.items()}


class Drawn:
    """In place of a pipeline: values that are drawn by the seed of each sample, by the number of outputs if alone."""

    codi, config, modalities = toy.codi(*toy.EVERYTHING), CONFIG, toy.EVERYTHING
    captions = ("a red seven", "the blue two moving left")

    def __call__(self, prompts, outputs, seed):
        assert all(len(of) == len(seed) for of in prompts.values())
        for name, of in prompts.items():
            for value in of:
                self.codi[name].raw_from_user(value)  # which a pipeline reads, too
        return Output(self.codi, {name: [self.value(name, s, len(outputs)) for s in seed] for name in outputs}, {})

    def value(self, name, seed, outputs):
        rng = np.random.default_rng([seed, outputs])
        if name == "text":
            return self.captions[rng.integers(len(self.captions))] if self.captions else ""
        if name == "audio":
            return rng.integers(-9000, 9000, self.codi[name].samples, np.int16)
        return rng.integers(0, 256, (8,) * (name == "video") + (32, 32, 3), np.uint8)


def run(out, datasets, pipe=None, model="toy", networks="sums=x", tasks=(), n=N, seed=0, batch_size=2, **settings):
    config = SuiteConfig(n=n, seed=seed, batch_size=batch_size, tasks=tasks)
    fields = {"resamples": 5, "batch_size": 3, **settings}
    return run_suite("paper", pipe or Drawn(), model, datasets, networks, out, config, Settings(**fields), made.silent)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(*args, **kwargs):
    with pytest.raises(ConfigError) as error:
        run(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_task_of_the_paper_has_its_row_and_its_files(tmp_path, datasets):
    found = run(tmp_path / "out", datasets)
    tasks = {task["name"]: task for task in found["tasks"]}
    assert list(tasks) == [task.name for task in paper.TASKS] and not found["left_out"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == json.loads(json.dumps(found))

    coco = tasks["text_to_image.coco"]
    assert coco["n"] == 3 and found["datasets"]["coco"]["n"] == 3  # one of four is damaged
    assert "not an image" in str(found["datasets"]["coco"]["unreadable"])
    assert found["datasets"]["audiocaps"]["missing"] == 1
    assert tasks["text_to_video.msrvtt"]["n"] == 3 and tasks["image_to_audio.msrvtt"]["n"] == 2  # one is silent
    assert {row["metric"] for row in tasks["image_to_text.coco"]["settings"]["joint"]} == {
        *("bleu", "rouge", "cider", "cosine")
    }
    assert tasks["image_to_text.coco"]["published"]["cider"]["value"] == 1.499

    together = tasks["text_to_image+audio+video.msrvtt"]["settings"]
    assert together.keys() == {"joint", "independent"}
    for setting in together.values():
        assert {row["metric"] for row in setting} == {"cosine", "sim", "av_align", "lag_curve"}
    sim = next(row for row in together["joint"] if row["metric"] == "sim")
    assert sim["n"] == 3 and "shuffled" in sim["numbers"]

    samples = tmp_path / "out" / "samples" / "text_to_image+audio+video.msrvtt"
    assert {path.suffix for path in samples.rglob("*") if path.is_file()} == {".jsonl", ".png", ".wav", ".mp4"}
    text = page.text(found)
    assert "text → image + audio + video  msrvtt" in text and "independent" in text and "1.499" in text
    assert "coco: 3 samples, 1 of those drawn cannot be read" in text
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("<figure") == len(tasks) + 4 and "Outputs generated together" in html


def test_a_stopped_suite_goes_on_and_gives_the_same_files(tmp_path, datasets):
    tasks = ("text_to_image.coco", "text_to_text+audio.audiocaps")
    some = {name: datasets[name] for name in ("coco", "audiocaps")}
    found = run(tmp_path / "a", some, tasks=tasks)
    images = tmp_path / "a" / "samples" / tasks[0] / "image"
    before = contents(images)
    run(tmp_path / "b", some, tasks=tasks[:1])  # another selection, in another folder
    assert contents(tmp_path / "b" / "samples" / tasks[0] / "image") == before
    (lost, *kept) = sorted(images.iterdir())
    lost.unlink()
    times = {path: path.stat().st_mtime_ns for path in kept}
    again = run(tmp_path / "a", some, tasks=tasks)
    assert contents(images) == before and again["tasks"] == found["tasks"]
    assert [path for path in kept if path.stat().st_mtime_ns == times[path]]  # the other batch was not computed again
    sounds = contents(tmp_path / "a" / "samples" / tasks[1] / "audio")
    assert sounds != contents(tmp_path / "a" / "samples" / f"{tasks[1]}.independent" / "audio")


def test_prompts_are_what_real_samples_hold(tmp_path, datasets):
    some = {name: datasets[name] for name in ("coco", "msrvtt")}
    run(tmp_path, some, tasks=("text_to_text+image.coco", "text+image_to_video.msrvtt"))

    def listed(task):
        lines = (tmp_path / "samples" / task / "prompts.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    for line in listed("text_to_text+image.coco"):
        captions = (tmp_path / "real" / "coco" / "text" / f"{line['key']}.txt").read_text().splitlines()
        cut = line["prompts"]["text"]
        assert len(captions) == 3 and cut in {truncate_caption(captions[0], u / 100) for u in range(100)}
    rows = listed("text+image_to_video.msrvtt")
    assert len({row["seed"] for row in rows}) == len(rows) == 3
    for row in rows:
        i = int(row["key"].removeprefix("video"))
        shown = np.asarray(Image.open(row["prompts"]["image"])).astype(float)
        frames = sets.pixels(sets.world(N)["video"][i]).astype(float)
        errors = [np.abs(shown - frame).mean() for frame in frames]
        assert int(np.argmin(errors)) in (4, 5) and min(errors) < 12  # the frame at half a second


def test_an_empty_caption_is_a_file_that_can_be_measured(tmp_path, datasets):
    class Silent(Drawn):
        captions = ()

    found = run(tmp_path, {"coco": datasets["coco"]}, Silent(), tasks=("image_to_text.coco",))
    texts = contents(tmp_path / "samples" / "image_to_text.coco" / "text")
    assert set(texts.values()) == {EMPTY.encode()}
    scores = {row["metric"]: next(iter(row["numbers"].values())) for row in found["tasks"][0]["settings"]["joint"]}
    assert scores["bleu"] < 1e-6 and scores["rouge"] == scores["cider"] == 0


def test_parameters_on_all_devices_give_the_same_samples(tmp_path, datasets):
    codi = toy.codi()
    variables = toy.variables(codi)
    everywhere = replicate(variables, make_mesh(MeshConfig(fsdp=1)))
    some, tasks = {"coco": datasets["coco"]}, ("text_to_image.coco",)
    config = GenerateConfig({name: ClassifierFreeGuidance() for name in toy.PAIR}, steps=1, loop="host")
    run(tmp_path / "one", some, Pipeline(codi, config, variables), tasks=tasks, batch_size=8)
    run(tmp_path / "all", some, Pipeline(codi, config, everywhere), tasks=tasks, batch_size=8)
    for path in sorted((tmp_path / "one" / "samples" / tasks[0] / "image").iterdir()):
        other = tmp_path / "all" / "samples" / tasks[0] / "image" / path.name
        assert np.abs(np.asarray(Image.open(path)).astype(int) - np.asarray(Image.open(other))).max() <= 1


def test_real_samples_are_written_as_the_model_reads_them(tmp_path, datasets):
    run(tmp_path, {"audiocaps": datasets["audiocaps"]}, networks="vggish=random:64", tasks=("text_to_audio.audiocaps",))
    folder = tmp_path / "real" / "audiocaps"
    modality = Drawn.codi["audio"]
    for path in (folder / "audio").iterdir():
        wave = modality.raw_from_user(str(path))
        given = modality.raw_from_user(f"{datasets['audiocaps'].removesuffix('test.csv')}audio/{path.name}")
        np.testing.assert_array_equal(wave, given)
    assert len(list((folder / "audio").iterdir())) == 3


def test_what_makes_no_sense_is_refused_before_anything_is_computed(tmp_path, datasets):
    coco = {"coco": datasets["coco"]}
    assert refused(tmp_path, coco, tasks=("text_to_image",)).startswith(
        "--tasks: no task 'text_to_image' (did you mean"
    )
    assert refused(tmp_path, coco, tasks=("audio_to_text.audiocaps",)).endswith("--datasets has no audiocaps")
    assert "no network 'sum'" in refused(tmp_path, coco, networks="sum=x")
    assert not any(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="expected at least 1"):
        SuiteConfig(n=0)


def test_a_folder_of_something_else_is_refused(tmp_path, datasets):
    coco = {"coco": datasets["coco"]}
    tasks = ("text_to_image.coco",)
    run(tmp_path, coco, tasks=tasks)
    assert refused(tmp_path, coco, model="other", tasks=tasks).startswith(
        f"--out: {tmp_path} has samples of another model"
    )
    assert "another seed" in refused(tmp_path, coco, seed=1, tasks=tasks)
    assert "another n (" in refused(tmp_path, coco, n=2, tasks=tasks)
    other = {"coco": str(sets.coco(tmp_path / "other", 2))}
    assert "another datasets.coco (" in refused(tmp_path, other, tasks=tasks)


def test_a_data_set_without_files_is_named(tmp_path, datasets):
    root = tmp_path / "sets"
    file = sets.coco(root, 2)
    for path in (root / "val2014").iterdir():
        path.write_bytes(b"no image")
    assert "none of 2 samples can be read" in refused(tmp_path / "out", {"coco": str(file)})


def test_the_papers_number_stands_beside_one_that_is_measured_alike():
    def of(metric, network):
        row = {"metric": metric, "on": ["audio"], "network": network, "numbers": {metric: 1.0}, "intervals": {}}
        task = {
            **{"prompts": ["text"], "outputs": ["audio"], "dataset": "audiocaps"},
            "settings": {"joint": [{**row, "n": 3, "n_reference": 3}]},
            "published": {"fad": {"value": 1.8, "source": "", "network": "vggish"}},
        }
        networks = {
            "vggish": {"kind": "vggish", "weights": "5f1a"},
            "tried": {"kind": "vggish", "weights": "random:8, seed 0"},
            "tower": {"kind": "tower", "weights": "5f1a"},
        }
        (line,) = page.lines(task, networks)
        return line.paper

    assert [of("fad", name) for name in ("vggish", "tried", "tower")] == ["1.8", "", ""]
    assert of("cosine", "vggish") == ""
