"""A running platform, as far as an experiment asks it."""

from collections.abc import Mapping, Sequence
from typing import Any

from driftloop.fleet import roles
from driftloop.fleet.runs import Run
from driftloop.protocol.archive_client import deal_roles, post_batch
from driftloop.protocol.client import AsyncClient, served_model
from driftloop.settings import Settings


class Platform(AsyncClient):
    """The server and the retrainer of `settings`, over HTTP."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.retrainer_url, settings.token)
        self._token = settings.token
        self._server_url = settings.server_url.rstrip("/")
        self.predict_url = f"{self._server_url}/predict"

    async def model(self) -> dict[str, Any]:
        """What the server serves now."""
        return await served_model(self._server_url, self._token)

    async def with_roles(self, runs: Sequence[Run], least: Mapping[str, int]) -> list[Run]:
        """The runs with the roles that the archive has for them; where it has none, they are dealt."""
        return roles.assign(runs, await self.ask(deal_roles([run.run_id for run in runs], least)))

    async def post_runs(self, body: bytes) -> None:
        """Archive completed runs; `body` is one of `archive_client.batches`."""
        await self.ask(post_batch(body))
