"""Support for `s3://` in Orbax.

Orbax passes tensorstore a JSON spec of where arrays are stored, which one function builds. Tensorstore supports S3, but
that function (of Orbax 0.12) supports only `gs://` and takes `s3://bucket` for a relative path. This module therefore
builds the spec of the same path on `gs://` and replaces the driver `gcs` by `s3`; all other settings (OCDBT, file
sizes, coalesced reads) are Orbax's own for object stores.
"""

import functools
import os
from typing import Any

from orbax.checkpoint._src.serialization import tensorstore_utils

_PREFIX = "s3://"


def _driver(bucket: str, path: str) -> dict[str, Any]:
    """Tensorstore's key-value store for a bucket; settings that the environment lacks take Amazon's defaults."""
    environment = os.environ
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": path}
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if endpoint := environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"):
        spec["endpoint"] = endpoint
        region = region or "us-east-1"  # any; without one tensorstore sends a query that only Amazon answers
    if region:
        spec["aws_region"] = region
    if "AWS_ACCESS_KEY_ID" in environment:
        spec["aws_credentials"] = {"type": "environment"}
    return spec


def _on_s3(spec: Any) -> Any:
    """The spec with every `gcs` driver replaced by `s3`."""
    if isinstance(spec, dict):
        if spec.get("driver", "").startswith("gcs"):
            return _driver(spec["bucket"], spec["path"])
        return {key: _on_s3(value) for key, value in spec.items()}
    return [_on_s3(value) for value in spec] if isinstance(spec, list) else spec


@functools.cache
def patch_orbax() -> None:
    """Enables `s3://` in Orbax for this process, unless Orbax supports it."""
    original = tensorstore_utils.build_kvstore_tspec
    try:
        original(f"{_PREFIX}bucket/directory")
    except ValueError:  # "should be absolute"

        @functools.wraps(original)
        def build(directory: str, *args: Any, **options: Any) -> Any:
            if not str(directory).startswith(_PREFIX):
                return original(directory, *args, **options)
            return _on_s3(original(f"gs://{str(directory).removeprefix(_PREFIX)}", *args, **options))

        tensorstore_utils.build_kvstore_tspec = build
