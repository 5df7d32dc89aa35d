"""A real S3 server on this machine's loopback: moto's, spoken to over HTTP as Amazon's would be."""

import atexit
import functools
import logging
from typing import Any

import boto3
from moto.server import ThreadedMotoServer


@functools.cache
def _port() -> int:
    """One a process, since those who talk to it remember where it is."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    atexit.register(server.stop)
    return server.get_host_and_port()[1]


def bucket(monkeypatch: Any, name: str) -> str:
    """A new bucket's address, and the environment in which it is found."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{_port()}")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"
