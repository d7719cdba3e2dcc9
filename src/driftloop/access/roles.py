"""The four roles, and what each may do that others may not."""

from typing import get_args

from driftloop.protocol.roles import Role

ROLES: tuple[Role, ...] = get_args(Role)

_MAY: dict[Role, frozenset[Role]] = {
    "view": frozenset({"view"}),
    "predict": frozenset({"view", "predict"}),
    "operate": frozenset({"view", "operate"}),
    "admin": frozenset(ROLES),
}


PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths of every process that nobody is asked for who they are: what probes and Prometheus read."""


def may(role: Role, needed: Role) -> bool:
    """Whether who has `role` may do what needs `needed`: look (view), ask for predictions (predict), change what the
    loop does (operate), give access to others (admin)."""
    return needed in _MAY[role]


def highest(roles: list[Role]) -> Role | None:
    """The role that may most; of `predict` and `operate`, neither of which may what the other may, `operate`."""
    return max(roles, key=ROLES.index, default=None)
