"""A running platform, as far as an experiment asks it."""

from typing import Any

from driftloop.protocol.archive_client import post_batch
from driftloop.protocol.client import AsyncClient, served_model
from driftloop.settings import Settings


class Platform(AsyncClient):
    """The server and the retrainer of `settings`, over HTTP."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.retrainer_url, settings.token)
        self._server_url = settings.server_url.rstrip("/")
        self.predict_url = f"{self._server_url}/predict"

    async def model(self) -> dict[str, Any]:
        """What the server serves now."""
        return await served_model(self._server_url)

    async def post_runs(self, body: bytes) -> None:
        """Archive completed runs; `body` is one of `archive_client.batches`."""
        await self.ask(post_batch(body))
