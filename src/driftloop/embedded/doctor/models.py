"""The registry and the model in production: reachable, whole, of this fleet, and the one that is served."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from driftloop.embedded.doctor.findings import Finding, fine, of_error, problem, warning
from driftloop.errors import BundleError, DriftloopError
from driftloop.fleet.difference import difference
from driftloop.model import bundle
from driftloop.model.registry import DIGEST_TAG, PRODUCTION, Registry
from driftloop.protocol.client import Server
from driftloop.settings import Settings


def production(settings: Settings) -> Iterator[Finding]:
    """The version behind the alias `production`: its bundle against its digest, its rows against the fleet file."""
    where = f"{settings.mlflow_url}, model {settings.model}"
    with Registry(settings.mlflow_url, settings.model) as registry:
        version = registry.alias(PRODUCTION)
        if version is None:
            remedy = "driftloop train --promote"
            yield warning("registry", "no version is in production: answers are a stub's", where, remedy)
            return
        tagged = registry.tags(version).get(DIGEST_TAG, "")
        try:
            with tempfile.TemporaryDirectory() as folder:
                metadata = bundle.read_metadata(registry.fetch(version, Path(folder) / "bundle"))
        except BundleError as error:
            back = f"driftloop rollback {version}, or driftloop train --promote"
            yield problem("registry", f"version {version} cannot be used: {error.what}", where, back)
            return
    yield fine("registry", f"version {version} is in production, and its files have its digest", where)
    schema = settings.schema
    if metadata.schema.digest == schema.digest:
        yield fine(
            "fleet", f"version {version} was trained on rows as {schema.name}'s fleet file has them", settings.fleet
        )
    else:
        what = f"version {version} was trained for another fleet: {difference(metadata.schema, schema)}"
        remedy = "put the fleet file back, or give the changed fleet another name and train a model of its own"
        yield problem("fleet", what, settings.fleet, remedy)
    yield from _served(settings, version, tagged)


def _served(settings: Settings, version: str, digest: str) -> Iterator[Finding]:
    """Whether the server answers with that version, byte for byte."""
    try:
        with Server(settings.server_url) as server:
            model = server.model()
    except DriftloopError as error:
        yield of_error("registry", error)
        return
    served = str(model.get("model_version"))
    refused = model.get("refused")
    if refused and str(refused.get("version")) == version:
        what = f"the server refuses version {version}, which is in production: {refused.get('reason')}"
        back = f"driftloop rollback {version}, or driftloop train --promote"
        yield problem("registry", what, settings.server_url, back)
    elif served != version:
        what = f"the server answers with version {served}, and {version} is in production"
        yield problem("registry", what, settings.server_url, "wait a second; if it stays so, restart the server")
    elif model.get("digest") != digest:
        what = f"version {version} is served with another digest than the registry has for it"
        yield problem("registry", what, settings.server_url, "restart the server: it fetches the bundle anew")
    else:
        yield fine("registry", f"the server answers with version {version}, byte for byte", settings.server_url)
