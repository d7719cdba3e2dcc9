"""A Git server for tests: git_server.py ADDRESS PORT FOLDER; repositories of a folder over HTTP, made when asked for.

Names and passwords are on standard input, as lines `NAME PASSWORD read|write`: nobody else gets in, and who may read
cannot push. Git itself answers (git http-backend).
"""

import base64
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MOST = 64 * 2**20


class Handler(BaseHTTPRequestHandler):
    """One request, handed on to Git as a CGI program."""

    people: dict[str, tuple[str, bool]]
    folder: Path

    def _who(self) -> str | None:
        """Who asks, or None where that is nobody who may."""
        kind, _, coded = self.headers.get("Authorization", "").partition(" ")
        name, _, password = base64.b64decode(coded if kind == "Basic" else "").decode().partition(":")
        known, writes = self.people.get(name, ("", False))
        pushes = "git-receive-pack" in self.path
        return name if known and password == known and (writes or not pushes) else None

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        who = self._who()
        path, _, query = self.path.partition("?")
        repository = path.strip("/").split("/")[0]
        if who is None or length > MOST or not repository.endswith(".git") or repository.startswith("."):
            self.send_response(401 if who is None else 400)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if not (self.folder / repository).exists():
            place = str(self.folder / repository)
            subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch", "main", place], check=True)
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        body = self._chunks() if chunked else self.rfile.read(length)
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(self.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": who,
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def _chunks(self) -> bytes:
        parts = []
        while (size := int(self.rfile.readline(), 16)) and sum(map(len, parts)) <= MOST:
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


def main(address: str, port: str, folder: str) -> None:
    people = [line.split() for line in sys.stdin.read().splitlines()]
    Handler.people = {name: (password, may == "write") for name, password, may in people}
    Handler.folder = Path(folder).resolve()
    ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
