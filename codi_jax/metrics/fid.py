"""FID and FVD: the Fréchet distance (`metrics.frechet`) of the features that each is defined on.

    FID    images; pool features [n, 2048] of `encoders.inception.InceptionV3`        Heusel et al., arXiv 1706.08500
    FVD    videos; logits [n, 400] of I3D trained on Kinetics-400, of 16 frames        Unterthiner et al., 1812.01717
           of 224×224, or features of another network of videos, which must be named

Both are d², in the squared units of the features, at least 0, and 0 if means and covariances agree. Features of another
network, or of images resized otherwise, give another number.

The distance of n samples is biased upwards by about c/n, where c depends on the model, so compare equal n, say n, and
have n well above F: 50,000 samples for FID, 2048 for FVD in their papers. `metrics.fid_infinity` extrapolates to n = ∞.

    metric = fid(fit(real))                              # or fid(read_statistics("cifar10.npz")), features [n, 2048]
    numbers = compute(metric, batches_of_features)                                          # {"fid": …, "n": …}
    low, high = bootstrap_metric(metric, features, resamples=200, centre=True)["fid"][1:3]

The interval is that of the generated samples, with the reference fixed; see `metrics.bootstrap` for `centre`.
"""

import zipfile
from pathlib import Path

import numpy as np

from codi_jax import storage
from codi_jax.config import ConfigError, first_line
from codi_jax.metrics.frechet import FrechetDistance, Gaussian


def fid(reference: Gaussian) -> FrechetDistance:
    """Metric {"fid", "n"} of batches of Inception features [n, 2048].

    Args:
      reference: fit of the features of the real images.
    """
    return FrechetDistance(reference, "fid")


def fvd(reference: Gaussian) -> FrechetDistance:
    """Metric {"fvd", "n"} of batches of features of videos [n, F].

    Args:
      reference: fit of the features of the real videos.
    """
    return FrechetDistance(reference, "fvd")


def read_statistics(path: str | Path) -> Gaussian:
    """The reference from a file as pytorch-fid and the FID paper's program write it.

    Args:
      path: an .npz file with the arrays `mu` [F] and `sigma` [F, F].

    Raises:
      ConfigError: the file cannot be read, or does not hold these.
    """
    try:
        with storage.as_path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: expected an .npz file with arrays mu and sigma: {first_line(error)}") from None
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ConfigError(f"{path}: expected mu [F] and sigma [F, F], got {mean.shape} and {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ConfigError(f"{path}: mu or sigma has a value that is not finite")
    return Gaussian(mean, covariance)


def write_statistics(path: str | Path, reference: Gaussian) -> None:
    """Writes a reference that `read_statistics`, pytorch-fid and the FID paper's program read, an .npz file."""
    np.savez(path, mu=reference.mean, sigma=reference.covariance)
