"""A double of Hetzner Cloud's API, as far as playbooks/hetzner.yml asks it: keys, firewalls, servers, actions."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "t" * 64
NOW = "2026-11-29T10:00:00+00:00"
PLACE = {
    "id": 1, "name": "nbg1", "description": "", "country": "DE", "city": "Nuremberg", "latitude": 0.0, "longitude": 0.0,
    "network_zone": "eu-central",
}  # fmt: skip
RULE = {"description": None, "port": None, "source_ips": [], "destination_ips": []}
TYPE = {
    "id": 1, "name": "cpx41", "description": "", "cores": 8, "memory": 16.0, "disk": 240, "deprecated": False,
    "prices": [], "storage_type": "local", "cpu_type": "shared", "architecture": "x86", "deprecation": None,
    "category": "shared",
    "locations": [{"id": 1, "name": "nbg1", "deprecation": None, "available": True, "recommended": True}],
}  # fmt: skip
IMAGE = {
    "id": 1, "name": "ubuntu-24.04", "type": "system", "status": "available", "description": "", "image_size": None,
    "disk_size": 5, "created": NOW, "created_from": None, "bound_to": None, "os_flavor": "ubuntu",
    "os_version": "24.04", "rapid_deploy": True, "protection": {"delete": False}, "deprecated": None,
    "deleted": None, "labels": {}, "architecture": "x86",
}  # fmt: skip


class Cloud:
    """What is rented."""

    def __init__(self, address: str) -> None:
        self.kept: dict[str, list[dict[str, Any]]] = {"ssh_keys": [], "firewalls": [], "servers": []}
        self.address = address
        self.asked: list[str] = []
        self.denied = 0
        self._id = 100

    def find(self, kind: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        known = {
            "server_types": [TYPE], "images": [IMAGE], "locations": [PLACE], "datacenters": [], "isos": [],
            "primary_ips": [], "placement_groups": [],
        }  # fmt: skip
        every = self.kept.get(kind, known.get(kind, []))
        return [each for each in every if "name" not in query or each["name"] in query["name"]]

    def make(self, kind: str, told: dict[str, Any]) -> dict[str, Any]:
        self._id += 1
        made = {"id": self._id, "created": NOW, "labels": told.get("labels") or {}, "name": told["name"]}
        if kind == "ssh_keys":
            made |= {"public_key": told["public_key"], "fingerprint": "aa:bb"}
        if kind == "firewalls":
            made |= {"rules": [RULE | each for each in told.get("rules", [])], "applied_to": []}
        if kind == "servers":
            made |= self._server(told)
        self.kept[kind].append(made)
        return made

    def _server(self, told: dict[str, Any]) -> dict[str, Any]:
        ip = {"id": 7, "ip": self.address, "blocked": False, "dns_ptr": "a.example.test"}
        walls = [{"id": int(each["firewall"]), "status": "applied"} for each in told.get("firewalls", [])]
        net = {"ipv4": ip, "ipv6": None, "floating_ips": [], "firewalls": walls}
        return {
            "status": "running", "public_net": net, "private_net": [], "server_type": TYPE, "location": PLACE,
            "datacenter": {"id": 1, "name": "nbg1-dc3", "description": "", "location": PLACE,
                           "server_types": {"supported": [1], "available": [1], "available_for_migration": [1]}},
            "image": IMAGE, "iso": None, "rescue_enabled": False, "locked": False, "backup_window": None,
            "outgoing_traffic": 0, "ingoing_traffic": 0, "included_traffic": 0, "primary_disk_size": 240,
            "protection": {"delete": False, "rebuild": False}, "volumes": [], "load_balancers": [],
            "placement_group": None,
        }  # fmt: skip


def action(number: int) -> dict[str, Any]:
    return {
        "id": number, "command": "any", "status": "success", "progress": 100, "started": NOW, "finished": NOW,
        "resources": [], "error": None,
    }  # fmt: skip


@contextmanager
def serving(cloud: Cloud) -> Iterator[str]:
    """The API's address while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, told: dict[str, Any] | None, status: int = 200) -> None:
            body = json.dumps(told).encode() if told is not None else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def parts(self) -> list[str]:
            cloud.asked.append(f"{self.command} {self.path}")
            return urlsplit(self.path).path.strip("/").split("/")

        def allowed(self) -> bool:
            if self.headers["Authorization"] == f"Bearer {TOKEN}":
                return True
            cloud.denied += 1
            self.answer({"error": {"code": "unauthorized", "message": "the token is not known", "details": None}}, 401)
            return False

        def body(self) -> dict[str, Any]:
            told: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
            return told

        def do_GET(self) -> None:
            kind, *rest = self.parts()
            if not self.allowed():
                return
            if kind == "actions":
                self.answer({"action": action(int(rest[0]))} if rest else {"actions": [action(1)]})
            elif rest:
                found = [each for each in cloud.find(kind, {}) if str(each["id"]) == rest[0]]
                missing = {"error": {"code": "not_found", "message": "it is not there", "details": None}}
                self.answer({kind.removesuffix("s"): found[0]}) if found else self.answer(missing, 404)
            else:
                found = cloud.find(kind, parse_qs(urlsplit(self.path).query))
                page = {"page": 1, "per_page": 25, "previous_page": None, "next_page": None, "last_page": 1}
                self.answer({kind: found, "meta": {"pagination": page | {"total_entries": len(found)}}})

        def do_POST(self) -> None:
            kind, *rest = self.parts()
            told = self.body()
            if not self.allowed():
                return
            if rest:
                self.answer({"action": action(1), "actions": [action(1)]}, 201)
                return
            made = cloud.make(kind, told)
            more = (
                {"action": action(1), "next_actions": [], "root_password": None}
                if kind == "servers"
                else {"actions": []}
            )
            self.answer({kind.removesuffix("s"): made, **more}, 201)

        def do_PUT(self) -> None:
            kind, number = self.parts()[:2]
            self.body()
            if self.allowed():
                self.answer({kind.removesuffix("s"): next(e for e in cloud.kept[kind] if str(e["id"]) == number)})

        def do_DELETE(self) -> None:
            kind, number = self.parts()[:2]
            if self.allowed():
                cloud.kept[kind] = [each for each in cloud.kept[kind] if str(each["id"]) != number]
                self.answer({"action": action(1)} if kind == "servers" else None, 200 if kind == "servers" else 204)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
