import hashlib
import importlib.util
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from driftloop.errors import DataError
from driftloop.fleets.cmapss import download, files

CONTENT = {name: f"content of {name}\n".encode() * 50 for name in files.SHA256}


@pytest.fixture(autouse=True)
def known_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes small files for NASA's."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    monkeypatch.setattr(files, "SHA256", sums)
    monkeypatch.setattr(download, "SHA256", sums)
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of a web server, and the table of what it serves."""
    pages: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(404 if body is None else 200)
            promised = len(body or b"") + (1000 if self.path == "/cut.zip" else 0)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", pages
        web.shutdown()
        thread.join()


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.iterdir() if path != folder]


@pytest.mark.parametrize("form", ["flat", "in a folder", "nested", "hostile"])
def test_the_13_files_are_found_however_they_are_packed(
    form: str, server: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    url, pages = server
    pages["/data.zip"] = {
        "flat": zipped({**CONTENT, "Damage Propagation Modeling.pdf": b"%PDF"}),
        "in a folder": zipped({f"6. Turbofan/{name}": content for name, content in CONTENT.items()}),
        "nested": zipped({"6. Turbofan/CMAPSSData.zip": zipped(CONTENT), "6. Turbofan/readme.txt": b"another readme"}),
        "hostile": zipped({f"../../{name}": content for name, content in CONTENT.items()} | {"/etc/evil": b"x"}),
    }[form]
    folder = tmp_path / "raw" / "cmapss"
    seen: list[tuple[int, int | None]] = []
    address = download.pull(folder, [f"{url}/data.zip"], lambda done, total: seen.append((done, total)))
    assert address == f"{url}/data.zip"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert leftovers(folder) == []
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    assert seen[-1] == (len(pages["/data.zip"]), len(pages["/data.zip"]))


def test_the_next_address_is_tried_when_one_fails(server: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    url, pages = server
    pages["/second.zip"] = zipped(CONTENT)
    assert download.pull(tmp_path / "cmapss", [f"{url}/gone.zip", f"{url}/second.zip"]) == f"{url}/second.zip"


def test_files_that_are_there_already_are_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(zipped(CONTENT))
    folder = tmp_path / "cmapss"
    assert download.pull(folder, [str(tmp_path / "data.zip")]) == str(tmp_path / "data.zip")
    assert download.pull(folder, ["http://127.0.0.1:9/never-asked.zip"]) is None


def test_a_folder_with_damaged_files_is_repaired_and_other_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "cmapss"
    folder.mkdir()
    (folder / "train_FD001.txt").write_bytes(b"damaged")
    (folder / "notes.txt").write_bytes(b"mine")
    (tmp_path / "data.zip").write_bytes(zipped(CONTENT))
    download.pull(folder, [str(tmp_path / "data.zip")])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT | {"notes.txt": b"mine"}


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/data.zip", None, "answered 404"),
        ("/data.zip", b"<html>moved</html>", "is not a sound zip file"),
        ("/data.zip", zipped(CONTENT)[:-200], "is not a sound zip file"),
        ("/cut.zip", zipped(CONTENT), "cannot be reached"),
        ("/data.zip", zipped(CONTENT | {"train_FD002.txt": b"changed"}), "train_FD002.txt has SHA-256"),
        ("/data.zip", zipped({n: c for n, c in CONTENT.items() if n != "readme.txt"}), "readme.txt is missing"),
        ("/data.zip", zipped({"a.zip": zipped({"b.zip": zipped(CONTENT)})}), "is missing"),
    ],
)
def test_a_bad_archive_changes_nothing_and_says_what_else_can_be_done(
    path: str, body: bytes | None, says: str, server: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    url, pages = server
    if body is not None:
        pages[path] = body
    folder = tmp_path / "cmapss"
    with pytest.raises(DataError, match=says) as caught:
        download.pull(folder, [url + path])
    assert not folder.exists()
    assert leftovers(folder) == []
    assert caught.value.remedy is not None
    assert all(word in caught.value.remedy for word in ("CMAPSS_DIR", "dvc pull", "simulates"))


def test_a_member_that_unpacks_to_far_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_LARGEST_FILE", 10_000)
    (tmp_path / "bomb.zip").write_bytes(zipped(CONTENT | {"train_FD001.txt": b"0" * 1_000_000}))
    with pytest.raises(DataError, match=r"train_FD001\.txt in it is larger than"):
        download.pull(tmp_path / "cmapss", [str(tmp_path / "bomb.zip")])


def test_an_endless_download_is_refused(
    tmp_path: Path, server: tuple[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LARGEST_ARCHIVE", 1000)
    server[1]["/data.zip"] = b"0" * 5000
    with pytest.raises(DataError, match="is larger than"):
        download.pull(tmp_path / "cmapss", [f"{server[0]}/data.zip"])


def test_offline_every_address_is_named(tmp_path: Path) -> None:
    addresses = ["http://127.0.0.1:9/a.zip", str(tmp_path / "nothing.zip"), "nonsense://x"]
    with pytest.raises(DataError) as caught:
        download.pull(tmp_path / "cmapss", addresses)
    assert all(address in caught.value.what for address in addresses)


@pytest.mark.parametrize(
    ("proxy", "said"), [("socks5://127.0.0.1:9", r"pip install 'httpx\[socks\]'"), ("nonsense://x", "cannot be used")]
)
def test_a_proxy_that_cannot_be_used_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    if proxy.startswith("socks") and importlib.util.find_spec("socksio"):
        pytest.skip("the package for SOCKS proxies is installed")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(DataError, match=said):
        download.pull(tmp_path / "cmapss", ["http://example.invalid/data.zip"])
