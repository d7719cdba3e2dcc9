"""A client of a running platform: the few things that an experiment asks of it."""

from typing import Any

import aiohttp
import msgspec

from driftloop.errors import DriftloopError
from driftloop.settings import Settings

_TIMEOUT = aiohttp.ClientTimeout(total=30)


class Platform:
    """The server and the retrainer of `settings`, over HTTP."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.predict_url = settings.server_url.rstrip("/") + "/predict"
        headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def model(self) -> dict[str, Any]:
        """What the server serves now (`GET /model`)."""
        return await self._ask("GET", self._settings.server_url, "/model")

    async def events(self, after: int) -> tuple[list[dict[str, Any]], int]:
        """The events after number `after`, and the number to ask after next time."""
        answer = await self._ask("GET", self._settings.retrainer_url, f"/events?after={after}")
        return list(answer["events"]), int(answer["next"])

    async def last_event(self) -> int:
        """The number of the newest event."""
        answer = await self._ask("GET", self._settings.retrainer_url, "/status")
        return int(answer["last_event"])

    async def post_runs(self, body: bytes) -> dict[str, Any]:
        """Archive completed runs; `body` is one of `archive_client.batches`."""
        return await self._ask("POST", self._settings.retrainer_url, "/archive/runs", body)

    async def _ask(self, method: str, base: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        url = base.rstrip("/") + path
        try:
            headers = {"Content-Type": "application/json"} if body else None
            async with self._session.request(method, url, data=body, headers=headers) as response:
                content = await response.read()
                if response.status >= 400:
                    text = content[:300].decode(errors="replace")
                    remedy = "set DRIFTLOOP_TOKEN_FILE to the platform's token" if response.status == 401 else None
                    raise DriftloopError(f"answered {response.status}: {text}", where=url, remedy=remedy)
                answer = msgspec.json.decode(content)
        except (TimeoutError, aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
            raise DriftloopError(
                f"no usable answer: {error or type(error).__name__}",
                where=url,
                remedy="is the platform up? See `driftloop status`",
            ) from error
        if not isinstance(answer, dict):
            raise DriftloopError("answered something that is not a JSON object", where=url)
        return answer
