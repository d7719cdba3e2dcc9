#!/usr/bin/env python3
"""An OpenID Connect provider for the lab: three people, who only say who they are.

    oidc.py ADDRESS PORT <CLIENT_SECRET

Discovery, the authorization code flow with PKCE (RFC 7636) and nonce, ID tokens signed with RS256. A code is good once.
What a client must send is checked, as a real provider does.
"""

import base64
import hashlib
import html
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

GROUPS = {"anna": ["planners"], "clara": ["platform", "others"], "eve": ["others"]}
CLIENT = "driftloop"


def b64(content: bytes) -> str:
    """As JSON Web Tokens write bytes."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Provider(BaseHTTPRequestHandler):
    """One request; what is known is the class's."""

    issuer = secret = ""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    codes: dict[str, dict[str, str]] = {}  # noqa: RUF012  # one provider, one memory

    def do_GET(self) -> None:
        """Discovery, keys, and the page on which one says who one is."""
        path = urlsplit(self.path)
        if path.path == "/.well-known/openid-configuration":
            self.json(
                {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/keys",
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                    "code_challenge_methods_supported": ["S256"],
                }
            )
        elif path.path == "/keys":
            numbers = self.key.public_key().public_numbers()
            n, e = (b64(each.to_bytes((each.bit_length() + 7) // 8, "big")) for each in (numbers.n, numbers.e))
            self.json({"keys": [{"kty": "RSA", "kid": "lab", "alg": "RS256", "use": "sig", "n": n, "e": e}]})
        elif path.path == "/authorize":
            asked = dict(parse_qsl(path.query))
            assert asked["client_id"] == CLIENT, asked
            assert asked["response_type"] == "code", asked
            assert asked["code_challenge_method"] == "S256", asked
            assert asked["nonce"], asked
            fields = "".join(
                f'<input type="hidden" name="{name}" value="{html.escape(asked[name])}">' for name in asked
            )
            people = "".join(f'<button name="person" value="{name}">{name}</button>' for name in GROUPS)
            self.send(
                200, "text/html", f'<h1>Who are you?</h1><form method="post" action="/said">{fields}{people}</form>'
            )
        else:
            self.send(404, "text/plain", "there is nothing here")

    def do_POST(self) -> None:
        """Who somebody is, and the exchange of a code for what is known of them."""
        given = {
            name: values[0]
            for name, values in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
        }
        if self.path == "/said":
            code = secrets.token_urlsafe(32)
            self.codes[code] = given
            self.send_response(302)
            self.send_header(
                "Location", f"{given['redirect_uri']}?{urlencode({'code': code, 'state': given['state']})}"
            )
            self.end_headers()
            return
        asked = self.codes.pop(given.get("code", ""), None)
        if asked is None or not self.is_client(given) or not self.is_same(asked, given):
            self.json({"error": "invalid_grant"}, 400)
            return
        now, person = int(time.time()), asked["person"]
        self.json(
            {
                "access_token": secrets.token_urlsafe(32),
                "token_type": "Bearer",
                "expires_in": 3600,
                "id_token": self.signed(
                    {
                        "iss": self.issuer, "aud": CLIENT, "sub": f"id-of-{person}", "iat": now, "exp": now + 3600,
                        "nonce": asked["nonce"], "email": f"{person}@lab.example", "email_verified": True,
                        "groups": GROUPS[person],
                    }
                ),
            }
        )  # fmt: skip

    def is_client(self, given: dict[str, str]) -> bool:
        """Whether the client proves itself, in the header, where both words are encoded as in forms, or in the body."""
        header = self.headers.get("Authorization", "").removeprefix("Basic ")
        words = [unquote_plus(each) for each in base64.b64decode(header).decode().split(":")]
        if len(words) != 2:
            words = [given.get("client_id", ""), given.get("client_secret", "")]
        return secrets.compare_digest(":".join(words), f"{CLIENT}:{self.secret}")

    @staticmethod
    def is_same(asked: dict[str, str], given: dict[str, str]) -> bool:
        """Whether the one who brings the code is the one who asked for it."""
        proof = b64(hashlib.sha256(given.get("code_verifier", "").encode()).digest())
        return proof == asked["code_challenge"] and given.get("redirect_uri") == asked["redirect_uri"]

    def signed(self, claims: dict[str, object]) -> str:
        """An ID token."""
        parts = [b64(json.dumps(each).encode()) for each in ({"alg": "RS256", "kid": "lab", "typ": "JWT"}, claims)]
        return ".".join([*parts, b64(self.key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256()))])

    def json(self, content: object, status: int = 200) -> None:
        """Answer with JSON."""
        self.send(status, "application/json", json.dumps(content))

    def send(self, status: int, kind: str, content: str) -> None:
        """Answer."""
        body = content.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: addresses hold codes."""


if __name__ == "__main__":
    address, port, Provider.secret = sys.argv[1], int(sys.argv[2]), sys.stdin.read().strip()
    Provider.issuer = f"http://{address}:{port}"
    ThreadingHTTPServer((address, port), Provider).serve_forever()
