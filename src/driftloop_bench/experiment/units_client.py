"""The service of the fleet in service, as far as an experiment asks it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from driftloop.errors import DriftloopError
from driftloop.protocol.client import AsyncClient, Question, Refused
from driftloop.protocol.http import PATIENT

PAGE = 1000
_START_IT = "is the platform up, with the extra `units`? See `driftloop status`"
_encode = msgspec.json.Encoder().encode


class Units(AsyncClient):
    """The service at `url`; raises DriftloopError where it does not answer, or refuses."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token)
        self.url = url

    async def send_rows(self, columns: Sequence[str], rows: Sequence[bytes], *, backfill: bool = False) -> None:
        """Send rows, each a list of JSON in the order of the columns, until they are acknowledged; all must be kept."""
        body = b'{"columns":%b,"rows":[%b]}' % (_encode(columns), b",".join(rows))
        path = "/telemetry?backfill=true" if backfill else "/telemetry"
        taken = await self._ask("POST", path, body)
        if taken["refused"]:
            raise DriftloopError(f"rows are refused: {taken['problems'][0]}", where=self.url)

    async def fail(self, unit: str) -> None:
        """Tell that a unit has failed; the fleet file's end rule may have said so before."""
        event = {"kind": "failed", "who": "experiment", "id": f"failed-{unit}"}
        try:
            await self._ask("POST", f"/units/{unit}/events", _encode(event))
        except Refused:
            if (await self._ask("GET", f"/units/{unit}?steps=1"))["state"] != "failed":
                raise

    async def names(self) -> set[str]:
        """The names of all units that it knows, whatever became of them."""
        found: set[str] = set()
        while True:
            page = await self._ask("GET", f"/units?state=all&sort=unit&limit={PAGE}&offset={len(found)}")
            found |= {one["unit"] for one in page["units"]}
            if not page["units"] or len(found) >= page["total"]:
                return found

    async def predictions(self, after: int) -> dict[str, Any]:
        """Answers behind a number, and the number of the newest of them."""
        return await self._ask("GET", f"/predictions?after={after}&limit={PAGE}")

    async def last_prediction(self) -> int:
        """The number of the newest answer."""
        number = 0
        while (following := int((await self.predictions(number))["next"])) != number:
            number = following
        return number

    async def waiting(self) -> bool:
        """Whether steps wait for their answers."""
        status = await self._ask("GET", "/status")
        return bool(status["steps_waiting"] or status["units_behind"])

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        return await self.ask(Question(method, path, lambda content: content, body, PATIENT, _unreachable))


def _unreachable(said: str, where: str, _: str) -> DriftloopError:
    return DriftloopError(f"units does not answer: {said}", where=where, remedy=_START_IT)
