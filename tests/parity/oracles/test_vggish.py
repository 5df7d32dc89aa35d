"""VGGish and its patches against torchvggish, with random weights of the real size through a .pth file."""
# ruff: noqa: E402 (what needs torch is imported once it is known to be there)

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvggish")

from torchvggish.torchvggish import VGG, make_layers
from torchvggish.vggish_input import waveform_to_examples

from codi_jax.encoders.vggish import VGGish
from codi_jax.interop.vggish import load_vggish
from codi_jax.media.vggish_mel import vggish_patches
from tests.parity.oracles.oracle import check, run, shaken


def waves():
    """Noise, a chirp that sweeps all bands, and near silence, 2.4 s each."""
    t = np.arange(38400) / 16000
    noise = np.random.default_rng(0).standard_normal(len(t))
    return np.stack([0.3 * noise, 0.9 * np.sin(2 * np.pi * 1600 * t**2), 1e-4 * noise]).astype(np.float32)


def test_patches():
    x = waves()
    with torch.no_grad():
        want = np.stack([waveform_to_examples(wave, 16000, return_tensor=False) for wave in x])
    got = vggish_patches(x, 16000)
    assert got.shape == want.shape == (3, 2, 96, 64)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


# AudioLDM's evaluation and fadtk drop the last ReLU; torchvggish keeps it.
@pytest.mark.parametrize("relu_output", [False, True])
def test_embeddings(tmp_path, relu_output):
    oracle = shaken(VGG(make_layers(), postprocess=False))
    torch.save(oracle.state_dict(), tmp_path / "vggish.pth")
    if not relu_output:
        oracle.embeddings = oracle.embeddings[:-1]
    patches = vggish_patches(waves(), 16000)[:, 0]
    with torch.no_grad():
        want = oracle(torch.from_numpy(patches)[:, None])
    got = run(VGGish(relu_output=relu_output), load_vggish(tmp_path / "vggish.pth"), patches)
    assert got.shape == (3, 128) and (relu_output == (np.asarray(got).min() >= 0))
    check(got, want, 1e-4)
