"""TLS by certificate files: a renewed one is taken without a restart, and half of one harms nobody."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography import x509
from fastapi import FastAPI

from certificates import write
from driftloop.access import listening
from driftloop.environment import trust_this_machine
from driftloop.errors import DriftloopError
from driftloop.fleet.stores import BucketStore
from driftloop.model.mlflow import Mlflow
from driftloop.protocol import http as protocol_http
from driftloop.settings import Settings


def serial(port: int) -> int:
    """The serial number of the certificate that a new connection is given."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def wait(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def serving(settings: Settings) -> Iterator[int]:
    app = FastAPI()
    app.get("/")(lambda: {"hello": "there"})
    listener = listening.listen("127.0.0.1", 0)
    how = listening.options(settings, "https://localhost", "127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **how))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write(tmp_path, 1)
    return Settings(state_dir=tmp_path, tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")


def test_a_renewed_certificate_is_taken_without_a_restart(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LOOK_S", 0.0)
    with serving(settings) as port:
        assert serial(port) == 1
        open_before = httpx.Client(base_url=f"https://localhost:{port}", verify=False, trust_env=False)
        assert open_before.get("/").json() == {"hello": "there"}
        # Half of it is there: certificate and key do not belong together.
        write(tmp_path, 2, key=False)
        assert serial(port) == 1
        write(tmp_path, 3)
        wait(lambda: serial(port) == 3)
        assert open_before.get("/").json() == {"hello": "there"}
        open_before.close()


def test_the_platforms_own_client_trusts_whom_the_machine_trusts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol_http._trusted.cache_clear()
    with serving(settings) as port:
        with protocol_http.client(f"https://localhost:{port}") as http, pytest.raises(httpx.ConnectError, match="CERT"):
            http.get("/")
        monkeypatch.setenv("SSL_CERT_FILE", str(settings.tls_cert))
        protocol_http._trusted.cache_clear()
        with protocol_http.client(f"https://localhost:{port}") as http:
            assert http.get("/").json() == {"hello": "there"}
    protocol_http._trusted.cache_clear()


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that was told of no authority, and knows nothing of one that other tests were told of."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    protocol_http._trusted.cache_clear()
    yield
    protocol_http._trusted.cache_clear()


def asks_mlflow(url: str) -> str:
    with Mlflow(url) as registry, pytest.raises(DriftloopError) as told:
        registry.ask("GET", "runs/get", {})
    return str(told.value)


def asks_a_bucket(_: str) -> str:
    try:
        found = BucketStore("bucket", "").get("name")
    except DriftloopError as error:
        return str(error)
    return "404" if found is None else repr(found)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("ask", [asks_mlflow, asks_a_bucket])
def test_registry_and_store_too_are_trusted_by_an_authority_of_ones_own(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], str]
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    # One try: it is the first answer that tells whether the other side is trusted.
    monkeypatch.setattr("botocore.retries.standard.StandardRetryConditions.is_retryable", lambda *_: False)
    with serving(settings) as port:
        url = f"https://localhost:{port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert "certificate" in ask(url).lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(settings.tls_cert))
        protocol_http._trusted.cache_clear()
        for name in ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
            monkeypatch.setenv(name, "")  # so that it is gone again afterwards
            monkeypatch.delenv(name)
        trust_this_machine()
        assert "404" in ask(url)


def test_https_without_a_certificate_is_an_error(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(DriftloopError, match=r"https needs a certificate.*DRIFTLOOP_TLS_CERT"):
        listening.options(Settings(state_dir=tmp_path), "https://localhost:8400", "127.0.0.1")
    write(tmp_path, 2, key=False)
    with pytest.raises(DriftloopError, match=r"cert\.pem.*cannot be used"):
        listening.options(settings, "https://localhost:8400", "127.0.0.1")
    assert "ssl_certfile" not in listening.options(settings, "http://localhost:8400", "127.0.0.1")
