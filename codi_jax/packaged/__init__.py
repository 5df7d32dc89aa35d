"""Trained models in files: inside the Python package, in a folder, or on the Hugging Face hub; read without a workdir.

    model.safetensors         params/COMPONENT/PATH and constants/COMPONENT/PATH of the model
    judges.safetensors        params/COMPONENT/PATH of the networks that classify its outputs
    similarity.safetensors    params/COMPONENT/PATH of the towers that embed its outputs to compare them
    config.json               "run": the resolved config of the training run; "started_from": those of the runs that
                              trained what it started from, if it did; "judges": {"model", "settings"}, the
                              config.model whose preprocessing judges use and a JudgeConfig by modality; "files": sha256
    card.json, README.md      origin and quality of the weights
    tokenizers/N              files of tokenizers, which "run" names as package:tokenizers/N

A large file is several shards with an index, see `interop.shards`. Parameters are rounded to nearest even, constants
are stored in float32. A folder of judges only has no "run" and no model.safetensors; `Pipeline.save_pretrained` writes
no judges, and of a run "model", "generate" and "plugins".

Files may be those of others. Nothing of them is run: a plugin is imported only if the user names it. JSON is bounded;
shards are files of this folder that config.json lists; leaves have the paths, shapes and types of the config's model.
"""

from codi_jax.packaged.package import CARD as CARD
from codi_jax.packaged.package import DEFAULT as DEFAULT
from codi_jax.packaged.package import DTYPES as DTYPES
from codi_jax.packaged.package import FILES as FILES
from codi_jax.packaged.package import MODELS as MODELS
from codi_jax.packaged.package import Package as Package
from codi_jax.packaged.package import is_package as is_package
from codi_jax.packaged.package import open_package as open_package
from codi_jax.packaged.reader import PackageReader as PackageReader
from codi_jax.packaged.write import write as write
