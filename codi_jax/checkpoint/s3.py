"""Orbax on `s3://`.

Orbax describes to tensorstore where arrays go by a JSON spec, which one function makes. Tensorstore knows S3; that
function (of Orbax 0.12) knows `gs://` alone and takes `s3://bucket` for a relative path. So it is asked here for the
spec of the same place on `gs://`, in which the driver `gcs` then becomes `s3`; all else (OCDBT, file sizes, coalesced
reads) is as Orbax has it for any object store.
"""

import functools
import os
from typing import Any

from orbax.checkpoint._src.serialization import tensorstore_utils

_PREFIX = "s3://"


def _driver(bucket: str, path: str) -> dict[str, Any]:
    """Tensorstore's key-value store of a bucket; it takes what the environment does not say from Amazon's defaults."""
    environment = os.environ
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": path}
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if endpoint := environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"):
        spec["endpoint"] = endpoint
        region = region or "us-east-1"  # any; but without one the server would be asked, as only Amazon's answers
    if region:
        spec["aws_region"] = region
    if "AWS_ACCESS_KEY_ID" in environment:
        spec["aws_credentials"] = {"type": "environment"}
    return spec


def _on_s3(spec: Any) -> Any:
    """A spec with every `gcs` driver in it turned into `s3`."""
    if isinstance(spec, dict):
        if spec.get("driver", "").startswith("gcs"):
            return _driver(spec["bucket"], spec["path"])
        return {key: _on_s3(value) for key, value in spec.items()}
    return [_on_s3(value) for value in spec] if isinstance(spec, list) else spec


@functools.cache
def teach_orbax() -> None:
    """Lets Orbax, in this process, write to and read from `s3://`, unless it can by itself."""
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
