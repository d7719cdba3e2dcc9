"""What is served without a browser: shells, assets, their tags, and rules that every file of the pages keeps."""

import gzip
import hashlib
import re
import tomllib
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from driftloop.console import files, pages, shells
from driftloop.protocol.events import KINDS

SCRIPTS = sorted(path for path in files.FOLDER.rglob("*.js") if path.parent.name != "vendor")
OWN = [*SCRIPTS, files.FOLDER / "console.css", files.FOLDER / "icon.svg"]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(pages.router())
    with TestClient(app) as found:
        yield found


@pytest.mark.parametrize("page", shells.PAGES, ids=lambda page: page.name)
def test_each_page_is_a_shell_without_inline_code(client: TestClient, page: shells.Page) -> None:
    address = page.path.replace("{fleet}", "cmapss").replace("{unit:path}", "a/b")
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f'data-page="{page.name}"' in answer.text
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", answer.text, re.DOTALL)
    assert scripts
    assert all("src=" in attributes and not body for attributes, body in scripts)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", answer.text)


@pytest.mark.parametrize("page", shells.PAGES, ids=lambda page: page.name)
def test_all_that_a_shell_names_is_there(client: TestClient, page: shells.Page) -> None:
    named = re.findall(r'(?:src|href)="(/assets/[^"]+)"', shells.shell(page))
    assert f"/assets/js/pages/{page.name}.js" in named
    assert [path for path in named if client.get(path).status_code != 200] == []


def test_all_that_a_module_imports_is_there() -> None:
    missing = [
        f"{script.name} imports {name}"
        for script in SCRIPTS
        for name in re.findall(r'^(?:import .*|\} )from "([^"]+)";$', script.read_text(encoding="utf-8"), re.MULTILINE)
        if not (script.parent / name).is_file()
    ]
    assert missing == []


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_file_makes_markup_of_text_or_loads_from_elsewhere(path: files.Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|srcdoc", text)
    assert not re.search(r"https?://|@import|url\(", text)


def test_an_asset_is_compressed_and_not_sent_twice(client: TestClient) -> None:
    whole = (files.FOLDER / "console.css").read_bytes()
    plain = client.get("/assets/console.css", headers={"Accept-Encoding": "identity"})
    assert plain.content == whole
    assert "content-encoding" not in plain.headers
    packed = client.get("/assets/console.css", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == whole
    assert packed.headers["etag"] != plain.headers["etag"]
    again = client.get(
        "/assets/console.css", headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["../pages.py", "..%2fpages.py", "vendor/vendor.toml", "", "js", "%2e%2e/__init__.py"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/assets/{path}").status_code == 404


def test_vendored_files_are_as_listed() -> None:
    vendor = files.FOLDER / "vendor"
    entries = tomllib.loads((vendor / "vendor.toml").read_text(encoding="utf-8"))["file"]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.iterdir()}
    del found["vendor.toml"]
    assert found == {entry["file"]: entry["sha256"] for entry in entries}
    assert all(entry["licence"] and (vendor / entry["licence_file"]).is_file() for entry in entries)


def test_a_page_without_its_data_is_small() -> None:
    # The page that shows the API's document is another matter.
    assets = {name: asset for name, asset in files.load_all().items() if "swagger-ui" not in name}
    own = sum(len(gzip.compress(asset.content)) for name, asset in assets.items() if not name.endswith("LICENSE"))
    assert own < 100_000


def test_there_are_words_for_every_kind_of_event() -> None:
    words = (files.FOLDER / "js" / "words.js").read_text(encoding="utf-8")
    [table] = re.findall(r"^const EVENTS = \{\n(.*?)^\};", words, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"^  (\w+): \[", table, re.MULTILINE))
    assert named - {"fleet_changed"} == KINDS  # which whoever knows of it reports
