"""The page that shows an OpenAPI document: Swagger UI as it is published, with nothing from elsewhere."""

import gzip
from collections.abc import Callable
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent
VENDOR = FOLDER.parent / "console" / "assets" / "vendor"
_FILES = {
    "": (FOLDER / "page.html", "text/html; charset=utf-8"),
    "page.css": (FOLDER / "page.css", "text/css; charset=utf-8"),
    "start.js": (FOLDER / "start.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": (VENDOR / "swagger-ui.css", "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (VENDOR / "swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
}
NOTHING_FROM_ELSEWHERE = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers that tell browsers to load and run nothing from elsewhere."""
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Encoding": "gzip",
    **NOTHING_FROM_ELSEWHERE,
}


def routes(path: str) -> list[Route]:
    """The page at `path`, and what it loads below that; the document is `openapi.json` beside it."""
    return [Route(f"{path}/{name}" if name else path, _answering(name), include_in_schema=False) for name in _FILES]


def _answering(name: str) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        if "gzip" not in request.headers.get("accept-encoding", ""):
            headers = {key: value for key, value in _HEADERS.items() if key != "Content-Encoding"}
            return Response(gzip.decompress(_packed(name)), headers=headers, media_type=_FILES[name][1])
        return Response(_packed(name), headers=_HEADERS, media_type=_FILES[name][1])

    return answer


@cache
def _packed(name: str) -> bytes:
    return gzip.compress(_FILES[name][0].read_bytes(), mtime=0)
