"""What NetworkPolicies say of a connection, by the rules of the API: for tests without a cluster, and of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod with its namespace and labels, or an address that is no pod's."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def selects(selector: Policy, labels: Mapping[str, str]) -> bool:
    """Whether a selector of labels takes these; only the operator `In` is known."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def flows(policies: Sequence[Policy], client: End, server: End, port: int) -> bool:
    """Whether the policies at both ends let a TCP connection to this port through."""
    return _lets(policies, "egress", client, server, port) and _lets(policies, "ingress", server, client, port)


def _lets(policies: Sequence[Policy], direction: str, at: End, other: End, port: int) -> bool:
    kind, ends = ("Egress", "to") if direction == "egress" else ("Ingress", "from")
    holding = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == at.namespace
        and kind in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], at.labels)
    ]
    rules = [rule for spec in holding for rule in spec.get(direction, [])]
    return not holding or any(
        (not rule.get("ports") or any(_is_port(each, port) for each in rule["ports"]))
        and (not rule.get(ends) or any(_is_peer(each, at, other) for each in rule[ends]))
        for rule in rules
    )


def _is_port(named: Policy, port: int) -> bool:
    return named.get("protocol", "TCP") == "TCP" and named["port"] <= port <= named.get("endPort", named["port"])


def _is_peer(peer: Policy, at: End, other: End) -> bool:
    if "ipBlock" in peer:
        return bool(other.address) and (
            ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
            and not any(ip_address(other.address) in ip_network(each) for each in peer["ipBlock"].get("except", []))
        )
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        here = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    else:
        here = other.namespace == at.namespace
    return here and selects(peer.get("podSelector", {}), other.labels)
