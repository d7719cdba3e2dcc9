"""Serves the pages: a static shell for each, which its module fills from the public API, and the assets they share."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from driftloop.console.files import Asset, load_all
from driftloop.console.shells import PAGES, shell

_METHODS = ["GET", "HEAD"]
_HEADERS = {"Cache-Control": "no-cache"}
"""Kept by browsers, and asked about each time, so that an upgraded platform shows its own pages."""


def router() -> APIRouter:
    """The pages under `/`, and their assets under `/assets`; the files are read once, here."""
    assets = load_all()
    found = APIRouter(include_in_schema=False)

    @found.api_route("/assets/{path:path}", methods=_METHODS)
    def asset(path: str, request: Request) -> Response:
        """One file: compressed where the browser takes that, and not again where it has it."""
        known = assets.get(path)
        if known is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        return answer(known, request)

    for page in PAGES:
        document = Asset(shell(page).encode(), "text/html; charset=utf-8")

        def show(request: Request, document: Asset = document) -> Response:
            return answer(document, request)

        found.api_route(page.path, methods=_METHODS, name=page.name)(show)
        if page.path != "/" and not page.path.endswith(":path}"):
            found.api_route(page.path + "/", methods=_METHODS)(without_slash)
    return found


def without_slash(request: Request) -> Response:
    """The way from `/fleets/NAME/` to the page, within this address."""
    return RedirectResponse(f"/{request.url.path.strip('/')}", 308)


def answer(asset: Asset, request: Request) -> Response:
    """The asset as an answer to a request."""
    compressed = "gzip" in request.headers.get("accept-encoding", "")
    etag = asset.etag(compressed=compressed)
    headers = {**_HEADERS, "ETag": etag, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    if compressed:
        headers["Content-Encoding"] = "gzip"
    return Response(asset.compressed if compressed else asset.content, headers=headers, media_type=asset.media_type)
