"""The golden files: weights, inputs and outputs of the reference at small sizes, and how closely to agree with them.

A file is `PREFIX_NN[b][_NN...]_words.npz`; its `config` entry says everything that a test may assume. See INDEX.md
beside the files for the layout and the tolerances. Another folder of such files is taken by `$CODI_GOLDEN`.
"""

import dataclasses
import functools
import json
import os
import re
from pathlib import Path

import numpy as np

from codi_jax.interop.names import to_release

FOLDER = Path(os.environ.get("CODI_GOLDEN") or Path(__file__).parents[1] / "fixtures" / "golden")


@functools.lru_cache(maxsize=32)
def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


@dataclasses.dataclass(frozen=True)
class Case:
    """One golden file.

    Attributes:
      name: the file's name without prefix and suffix, `03_unet_audio`.
      path: the file.
    """

    name: str
    path: Path

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Every array of the file but its config, by its stored name (`in/...`, `out/...`, `w/...`)."""
        return {key: value for key, value in _load(self.path).items() if key != "config"}

    @property
    def config(self) -> dict:
        """The file's config."""
        return json.loads(str(_load(self.path)["config"]))

    def inputs(self, subcase: str = "") -> dict[str, np.ndarray]:
        """The inputs of a subcase by their short names, or all of them."""
        prefix = f"in/{subcase}/" if subcase else "in/"
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}

    def outputs(self, subcase: str = "") -> list[str]:
        """The names, as `check` takes them, of the outputs of a subcase, or of all of them."""
        prefix = f"out/{subcase}/" if subcase else "out/"
        return [k.removeprefix("out/") for k in self.arrays if k.startswith(prefix)]

    def weights(self) -> dict[str, np.ndarray]:
        """The reference's state dict, float16 made float32, from this file or those that its config names."""
        files = self.config.get("weights_file") or [self.path.name]
        files = [files] if isinstance(files, str) else files
        out = {}
        for file in files:
            for key, value in _load(self.path.parent / file).items():
                if key.startswith("w/"):
                    out[key.removeprefix("w/")] = value.astype(np.float32) if value.dtype == np.float16 else value
        return out

    def tolerance(self, name: str) -> float:
        """The absolute tolerance of an output: max(1e-5·max(1, max|x|), 30·d), d the reference's own float32 noise.

        Video outputs have at least 1e-3. An intermediate has no noise of its own: it takes the largest of its subcase.
        """
        noise = self.config["float32_noise"]
        if name in noise:
            d = noise[name][0]
        else:
            subcase = name.split("/")[0] + "/" if "/" in name else ""
            d = max((v[0] for k, v in noise.items() if k.startswith(subcase)), default=0.0)
        largest = float(np.abs(self.arrays[f"out/{name}"]).max(initial=0))
        floor = 1e-3 if self._is_video(name) else 0.0
        return max(1e-5 * max(1.0, largest), 30 * d, floor)

    def _is_video(self, name: str) -> bool:
        subcase = next((s for s in self.config.get("subcases", []) if s["name"] == name.split("/")[0]), {})
        if "/inter/" in name:
            return name.split("/inter/")[1].split("/")[0] == "video"
        output = re.fullmatch(r"(?:eps|z|after_step\d+_z)(\d+)", name.split("/")[-1])
        return bool(output) and subcase.get("xtype", [])[int(output[1])] == "video"

    def check(self, name: str, array, atol: float | None = None) -> None:
        """Compares an array in PyTorch's layout with the output `name`; a long intermediate is stored strided.

        `atol` overrides `tolerance` where INDEX.md makes an exception. Integers and strings are compared exactly.
        """
        want, got = self.arrays[f"out/{name}"], np.asarray(array)
        if name in (sub := self.config.get("sub", {})):
            assert list(got.shape) == list(sub[name]["shape"]), f"{self.name} {name}: {got.shape}"
            got = got.reshape(-1)[:: sub[name]["stride"]]
        assert got.shape == want.shape, f"{self.name} {name}: {got.shape} against {want.shape}"
        if want.dtype.kind != "f" and atol is None:
            np.testing.assert_array_equal(got, want, f"{self.name} {name}")
            return
        atol = self.tolerance(name) if atol is None else atol
        np.testing.assert_allclose(got, want, rtol=0, atol=atol, err_msg=f"{self.name} {name}")


def cases(number: str) -> list[Case]:
    """The files of a case, by number ("03", "02b") or by number and words ("14_schedule"), files of weights left out.

    A file may carry several numbers, as `A_01_02_unet_image.npz` does, and is a case of each.
    """
    found = []
    for path in sorted(FOLDER.glob("*.npz")):
        m = re.fullmatch(r"[A-Za-z][A-Za-z0-9]*_(((?:\d+[a-z]?_)*\d+[a-z]?)(?:_\w+)?)", path.stem)
        if m and number in (m[1], *m[2].split("_")):
            case = Case(m[1], path)
            if not case.config.get("weights_only"):
                found.append(case)
    return found


def check_weights_return(params: dict, weights: dict[str, np.ndarray], rules, ignore) -> None:
    """Our parameters go back to the reference's names bit for bit; only what `ignore` matches stays behind."""
    back = to_release(params, rules)
    assert back.keys() == {k for k in weights if not any(re.fullmatch(p, k) for p in ignore)}
    for key, value in back.items():
        np.testing.assert_array_equal(value, weights[key], key)
