"""Who a trusted proxy says is asking, and from where: its headers count, and nobody else's."""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from driftloop.access.roles import ROLES, highest
from driftloop.errors import DriftloopError
from driftloop.protocol.roles import Role

_PERSON = "user:"
_LEAST_PASSWORD = 16


@dataclass(frozen=True)
class Proxies:
    """Addresses that are trusted, the headers with name and groups, the role that each group gives, and the password by
    which a proxy proves itself, where it must."""

    networks: tuple[str, ...] = ()
    user_header: str = "x-forwarded-user"
    groups_header: str = "x-forwarded-groups"
    roles: tuple[tuple[str, Role], ...] = ()
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, addresses: str, user_header: str, groups_header: str, roles: str, password_file: Path | None = None
    ) -> "Proxies":
        """Of settings: addresses or networks, and `group=role` or `user:NAME=role`, separated by commas; raises
        DriftloopError."""
        networks = tuple(part.strip() for part in addresses.split(",") if part.strip())
        for part in networks:
            try:
                ipaddress.ip_network(part, strict=False)
            except ValueError as error:
                raise DriftloopError(
                    f"{part!r} is no address and no network",
                    where="DRIFTLOOP_TRUSTED_PROXIES",
                    remedy="write 10.0.0.7 or 10.0.0.0/24, separated by commas",
                ) from error
        password = None if password_file is None else _password(password_file)
        return cls(networks, user_header.lower(), groups_header.lower(), tuple(_roles(roles)), password)

    def trusts(self, address: str) -> bool:
        """Whether what this address says of others counts."""
        return bool(self.networks) and _within(address, self.networks)

    def speaks(self, peer: str, headers: Mapping[str, str]) -> bool:
        """Whether a request's headers say who is asking: it comes from a trusted address and brings no other
        credentials, but the proxy's password where there is one."""
        given = headers.get("authorization")
        if not self.trusts(peer):
            return False
        if self.password is None:
            return given is None
        return given is not None and hmac.compare_digest(_password_in(given), self.password.encode())

    def identity(self, headers: Mapping[str, str]) -> tuple[str, Role | None] | None:
        """Name and role of whom a proxy that `speaks` has let in; the role is None where neither name nor group gives
        one, and all is None where it names nobody."""
        name = _text(headers.get(self.user_header, "")).strip(" \t")
        if not name:
            return None
        if not name.isprintable():
            # It looks like somebody else's name, or like nobody's.
            return ascii(name)[:200], None
        groups = {part.strip() for part in _text(headers.get(self.groups_header, "")).split(",")}
        groups = {group for group in groups if not group.startswith(_PERSON)} | {_PERSON + name}
        return name[:200], highest([role for group, role in self.roles if group in groups])

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """From where a request comes: the last address that was added on the way by who is trusted."""
        found = peer
        for part in reversed(headers.get("x-forwarded-for", "").split(",")):
            if not self.trusts(found) or not part.strip():
                break
            found = part.strip()
        return found


def _text(header: str) -> str:
    """What a header says: its bytes are UTF-8, and come as Latin-1."""
    return header.encode("latin-1", errors="replace").decode(errors="replace")


def _roles(text: str) -> list[tuple[str, Role]]:
    found: list[tuple[str, Role]] = []
    for part in filter(None, map(str.strip, text.split(","))):
        group, _, name = part.rpartition("=")
        role = next((role for role in ROLES if role == name.strip()), None)
        if not group.strip() or role is None:
            raise DriftloopError(
                f"{part!r} is no group and role",
                where="DRIFTLOOP_PROXY_ROLES",
                remedy=f"write group=role or user:NAME=role, separated by commas; roles are {', '.join(ROLES)}",
            )
        found.append((group.strip(), role))
    return found


def _password(path: Path) -> str:
    try:
        found = path.read_text().strip()
    except OSError as error:
        raise DriftloopError(
            f"the proxy's password cannot be read: {error.strerror}",
            where=f"DRIFTLOOP_PROXY_PASSWORD_FILE, {path}",
            remedy="name a file that this process may read, or leave the setting away",
        ) from error
    if len(found) < _LEAST_PASSWORD:
        raise DriftloopError(
            f"the proxy's password has {len(found)} characters",
            where=f"DRIFTLOOP_PROXY_PASSWORD_FILE, {path}",
            remedy=f"write at least {_LEAST_PASSWORD} random ones",
        )
    return found


def _password_in(authorization: str) -> bytes:
    """The password of HTTP Basic; empty where there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


@lru_cache(maxsize=4096)
def _within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network, strict=False) for network in networks)
