"""Local S3 server for tests: moto, which keeps objects in memory."""

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer


class Store:
    """Client of the server, with its own new bucket."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        self.endpoint, self.bucket = endpoint, bucket
        # Ignore the user's own AWS settings, and do not query the metadata service of cloud machines.
        self.environment = {
            **{"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"},
            **{"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"},
            **{"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent/config"},
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
        }
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        self.client: Any = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        self.client.create_bucket(Bucket=bucket)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    @contextmanager
    def without(self, keys: list[str]) -> Iterator[None]:
        """Remove objects within the context, then restore them."""
        contents = {key: self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}
        for key in keys:
            self.remove(key)
        yield
        for key, content in contents.items():
            self.put(key, content)

    def upload(self, folder: Path, prefix: str) -> str:
        """Put every file below `folder` at its path below `prefix`; return the URL of the prefix."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{self.bucket}/{prefix}"

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Size of each object in bytes, by key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

    @contextmanager
    def asking_for_rights(self) -> Iterator[None]:
        """Make the server check permissions within the context; nobody has any."""
        address, headers = f"{self.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        try:
            urllib.request.urlopen(urllib.request.Request(address, b"0", headers)).close()  # after 0 requests
            yield
        finally:
            urllib.request.urlopen(urllib.request.Request(address, b"inf", headers)).close()


@contextmanager
def serve() -> Iterator[str]:
    """Run a server within the context and yield its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()
