"""Azurite: Azure's blob storage, the emulator that Microsoft gives out.

It writes its index of containers and blobs to disk every few seconds and when it is stopped, so
``kill`` loses what was stored last, and ``restart`` does not.
"""

import shutil
from typing import ClassVar

import httpx
from azure.storage.blob import BlobServiceClient

from tests.services.base import REQUEST_TIMEOUT_S, Service, ServiceMissingError
from tests.services.packages import NodePackage


class Azurite(Service):
    name = "azurite"
    package = NodePackage("azurite", "3.37.0")
    port_names: ClassVar = ("blob",)
    account: ClassVar[str] = "devstoreaccount1"
    account_key: ClassVar[str] = "ZWxhbnVzLXNlcnZpY2VzLXRlc3Qta2V5"

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.ports['blob']}"

    @property
    def address(self) -> str:
        """With the account in the path, as clients want it of an emulator."""
        return f"http://{self.endpoint}/{self.account}"

    def environment(self) -> dict[str, str]:
        return {"AZURITE_ACCOUNTS": f"{self.account}:{self.account_key}"}

    def command(self) -> list[str]:
        node = shutil.which("node")
        if node is None:
            raise ServiceMissingError("node is not installed: Debian has it as nodejs")
        script = self.package.directory / "node_modules/azurite/dist/src/blob/main.js"
        listen = ["--blobHost", "127.0.0.1", "--blobPort", str(self.ports["blob"])]
        quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        return [node, str(script), "--location", str(self.data_directory), *listen, *quiet]

    def make_container(self, container: str) -> None:
        """Make a container; names have 3 characters or more."""
        with BlobServiceClient(self.address, credential=self.account_key) as client:
            client.create_container(container)

    def is_ready(self) -> bool:
        """It refuses who doesn't sign, but it answers."""
        try:
            answer = httpx.get(
                f"{self.address}?comp=list", timeout=REQUEST_TIMEOUT_S, trust_env=False
            )
        except httpx.TransportError:
            return False
        return "x-ms-request-id" in answer.headers
