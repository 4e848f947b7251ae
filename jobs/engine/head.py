"""Checks of a Ray cluster's head before a driver joins it: service, token, versions, and a node on this machine.

`ray.init` makes the same checks, but retries each failure twenty times and then reports only that it failed.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from ray._common.usage import usage_lib
from ray._private import services, utils
from ray._private.authentication import authentication_token_setup as tokens
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]  # generated
from ray.exceptions import AuthenticationError, RayError

from sep_batch.jobs.setup.address import ANSWER_S, DASHBOARD_PORT, HEAD_PORT, Address, NoCluster, last_cluster, reach, within
from sep_batch.pipeline.storage import uris

NODE_S = 5.0  # time limit for a node that has just been started on this machine
_POLL_S = 0.5
_TOKEN = "in RAY_AUTH_TOKEN, in a file that RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token"  # noqa: S105 (no token)


def refuse_unjoinable(address: Address) -> Address:
    """Refuse a cluster that cannot be joined from this machine, within half a minute.

    Args:
        address: Address whose port has passed `reach`; or auto.

    Returns:
        The address as Ray takes it: auto as the cluster that Ray finds on this machine, localhost as an IP address.

    Raises:
        NoCluster: The cluster cannot be joined; names the reason and the next step.
    """
    located = _located(address)
    if located.text != address.text:
        reach(located)
    _refuse_no_token(located)
    try:
        client = within(ANSWER_S, lambda: _client(located))
        nodes = within(ANSWER_S, lambda: client.get_all_node_info(timeout=ANSWER_S, state_filter=GcsNodeInfo.GcsNodeState.ALIVE))
    except AuthenticationError as error:
        raise _refused_token(located) from error
    except TimeoutError as error:
        advice = f"check the load of the head; or {located.otherwise}"
        raise NoCluster(f"no cluster at {located}: its head does not answer in {ANSWER_S:.0f} s", advice) from error
    except RayError as error:
        advice = f"expected the port of the cluster's head, {HEAD_PORT} by default; or {located.otherwise}"
        problem = f"no cluster at {located}: another gRPC server answers ({uris.printable(str(error).strip(' :'))})"
        raise NoCluster(problem, advice) from error
    _refuse_no_node(located, {node.hex() for node in nodes})
    return located


def _located(address: Address) -> Address:
    if address.text != "auto":
        text = str(services.canonicalize_bootstrap_address(address.text))
        source = address.source if text == address.text else f"{address.source} {address.text}"
        return replace(address, text=text, source=source)
    tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as Ray does for auto, and only for auto
    services.find_gcs_addresses.cache_clear()  # type: ignore[attr-defined]  # Ray adds it
    try:
        text = str(services.canonicalize_bootstrap_address("auto"))
    except (ConnectionError, ValueError) as error:  # none, or a file that holds no address
        advice = f"start one (ray start --head), give its HOST:PORT, or {address.otherwise}"
        raise NoCluster(f"no cluster at {address}: Ray finds none on this machine", advice) from error
    last = last_cluster()
    if last and services.canonicalize_bootstrap_address(last.text) == text:
        return replace(last, text=text, source=f"{address.source} auto, {last.source}")
    return replace(address, text=text, source=f"{address.source} auto")


def _client(address: Address) -> GcsClient:
    """Return a client of the head; refuse a head with another version of Ray or Python."""
    client = GcsClient(address=address.text)
    versions = usage_lib.get_cluster_metadata(client)
    try:
        if versions:
            utils.check_version_info(versions, "this machine")
    except RuntimeError as error:
        ours, python = utils.compute_version_info()
        theirs = f"Ray {versions['ray_version']} on Python {versions['python_version']}"
        problem = f"the cluster at {address} has {theirs}, this machine Ray {ours} on Python {python}"
        raise NoCluster(problem, f"install the same versions on both; or {address.otherwise}") from error
    return client


def _refuse_no_token(address: Address) -> None:
    """Refuse token authentication without a token: Ray's client would end the process."""
    try:
        tokens.ensure_token_if_auth_enabled(create_token_if_missing=False)
    except AuthenticationError as error:
        problem = f"the cluster at {address}: RAY_AUTH_MODE is token, but no token is set"
        raise NoCluster(problem, f"put the cluster's token {_TOKEN}") from error


def _refused_token(address: Address) -> NoCluster:
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        source = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), "~/.ray/auth_token")
        problem = f"the cluster at {address} rejects the token of {source}"
        return NoCluster(problem, f"put the token that the cluster was started with {_TOKEN}")
    advice = f"set RAY_AUTH_MODE=token, and put the cluster's token {_TOKEN}"
    return NoCluster(f"the cluster at {address} expects a token", advice)


def _refuse_no_node(address: Address, nodes: set[str]) -> None:
    """Refuse a machine that is not a node of the cluster; a node that is starting has `NODE_S` to appear."""
    over = time.monotonic() + NODE_S
    while not nodes & services.find_node_ids():
        if time.monotonic() > over:
            host, _ = address.host_port
            problem = f"the cluster at {address} has no node on this machine, and a run must start on one of its nodes"
            advice = (
                f"run this on one of its {len(nodes)} nodes, join this machine to it (ray start --address={address.text}), "
                f"or submit it: sep-batch submit --address http://{host}:{DASHBOARD_PORT} -- COMMAND; or {address.otherwise}"
            )
            raise NoCluster(problem, advice)
        time.sleep(_POLL_S)
