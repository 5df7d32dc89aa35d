"""The golden files: weights, inputs and outputs of the reference at small sizes, and the tolerances.

A file is `PREFIX_NN[b][_NN...]_words.npz`; its `config` entry describes it. See INDEX.md in the folder of the files for
the layout and the tolerances. `$CODI_GOLDEN` names another folder.
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
        """All arrays of the file except its config, by their stored names (`in/...`, `out/...`, `w/...`)."""
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
        """The names of the outputs of a subcase, or of all, as `check` takes them."""
        prefix = f"out/{subcase}/" if subcase else "out/"
        return [k.removeprefix("out/") for k in self.arrays if k.startswith(prefix)]

    def weights(self) -> dict[str, np.ndarray]:
        """The reference's state dict, float16 cast to float32, from this file or those that its config names."""
        files = self.config.get("weights_file") or [self.path.name]
        files = [files] if isinstance(files, str) else files
        out = {}
        for file in files:
            for key, value in _load(self.path.parent / file).items():
                if key.startswith("w/"):
                    out[key.removeprefix("w/")] = value.astype(np.float32) if value.dtype == np.float16 else value
        return out

    def tolerance(self, name: str) -> float:
        """The absolute tolerance of an output: max(1e-5·max(1, max|x|), 30·d), d the float32 noise of the reference.

        For video it is at least 1e-3. For an intermediate d is the largest of its subcase.
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
        """Compares an array in PyTorch's layout with the output `name`; long intermediates are stored strided.

        `atol` overrides `tolerance` for the exceptions in INDEX.md. Integers and strings are compared exactly.
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
    """The files of a case, by number ("03", "02b") or by number and words ("14_schedule"), without files of weights.

    A file may have several numbers, such as `A_01_02_unet_image.npz`, and is a case of each.
    """
    matching = []
    for path in sorted(FOLDER.glob("*.npz")):
        m = re.fullmatch(r"[A-Za-z][A-Za-z0-9]*_(((?:\d+[a-z]?_)*\d+[a-z]?)(?:_\w+)?)", path.stem)
        if m and number in (m[1], *m[2].split("_")):
            case = Case(m[1], path)
            if not case.config.get("weights_only"):
                matching.append(case)
    return matching


def check_weights_return(params: dict, weights: dict[str, np.ndarray], rules, ignore) -> None:
    """Checks that our parameters convert back to the reference exactly, except for keys that `ignore` matches."""
    back = to_release(params, rules)
    assert back.keys() == {k for k in weights if not any(re.fullmatch(p, k) for p in ignore)}
    for key, value in back.items():
        np.testing.assert_array_equal(value, weights[key], key)
