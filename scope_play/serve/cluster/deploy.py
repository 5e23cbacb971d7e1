"""The app on a Ray cluster: a door for players and replicas with seats, built for Ray Serve.

`build` is what a Serve config imports; `deploy` is `scope-play serve --ray`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from scope_play.errors import ScopeError
from scope_play.interrupts import on_signals, sigterm_as_interrupt
from scope_play.serve.cluster.door import Door
from scope_play.serve.cluster.plan import Plan, read_plan, read_replicas
from scope_play.serve.cluster.seats import Seats
from scope_play.serve.config import ServeConfig
from scope_play.serve.run import addresses, listen

if TYPE_CHECKING:
    from scope_play.loading.request import LoadRequest

NAME = "scope-play"

CLOSING = 15.0
"""Seconds that a door has, beyond those of its seats, to end recordings."""

CONNECT_SECONDS = 10.0


def build(args: dict[str, Any]) -> Application:
    """The application of a Serve config's `args`, see `plan.Arguments`. The token comes from the door's environment."""
    return application(read_plan(args), None)


def application(plan: Plan, token: str | None) -> Application:
    config = plan.config
    deployment: Any = serve.deployment
    seats = deployment(Seats).options(
        name="seats",
        max_ongoing_requests=config.seats,
        graceful_shutdown_timeout_s=config.drain,
        ray_actor_options={"num_gpus": plan.gpus, "num_cpus": 0 if plan.gpus else 1},
        **_replicas(plan),
    )
    door = deployment(serve.ingress()(Door)).options(
        name="door",
        num_replicas=1,
        max_ongoing_requests=4 * config.connections,
        graceful_shutdown_timeout_s=config.drain + CLOSING,
        ray_actor_options={"num_cpus": 0},
    )
    handle = seats.bind(plan.request, config.seats, config.history_mb << 20)
    built: Application = door.bind(handle, config, plan.request.model, token)
    return built


def _replicas(plan: Plan) -> dict[str, Any]:
    """Growing with players: who waits for a seat counts as one."""
    if plan.least == plan.most:
        return {"num_replicas": plan.least}
    growing = AutoscalingConfig(
        min_replicas=plan.least, max_replicas=plan.most, target_ongoing_requests=plan.config.seats, upscale_delay_s=5.0
    )
    return {"autoscaling_config": growing}


def deploy(
    request: LoadRequest, config: ServeConfig, replicas: str | None, token: str, say: Callable[[str], None]
) -> int:
    """Serve until a signal comes, on the cluster that this machine belongs to or on one begun here.

    `replicas` as in `read_replicas`; None is one for each GPU, or one.
    """
    began_here = _join()
    with sigterm_as_interrupt(), _leaving(began_here):  # as Ray has put a handler of its own in the place of ours
        least, most = read_replicas(replicas) if replicas else (0, 0)
        gpus = 0 if request.device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
        plan = Plan(request, config, least or gpus or 1, most or gpus or 1, 1.0 if gpus else 0.0)
        port = _start(config)
        door = serve.run(application(plan, token), name=NAME, route_prefix="/")
        _require_port(config, port)
        for line in addresses(config, port, token):
            say(line)
        return asyncio.run(_until_told(door, plan, say))


@contextlib.contextmanager
def _leaving(began_here: bool) -> Iterator[None]:
    """Nothing of ours stays on the cluster."""
    try:
        yield
    finally:
        if began_here:
            serve.shutdown()
            ray.shutdown()
        else:
            serve.delete(NAME)


def _join() -> bool:
    """Whether a cluster was begun here, which nobody else can reach."""
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.WARNING)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        ray.init(address="local", include_dashboard=False, **quiet)
        return True
    return False


def _start(config: ServeConfig) -> int:
    """The port that Ray Serve's proxy listens on. It can only be chosen before Ray Serve runs on a cluster."""
    if serve.status().proxies:
        return config.port
    with listen(config) as free:
        port: int = free.getsockname()[1]
    http = {
        "host": config.host,
        "port": port,
        "ssl_certfile": config.tls_cert and str(config.tls_cert),
        "ssl_keyfile": config.tls_key and str(config.tls_key),
    }
    serve.start(proxy_location="HeadOnly", http_options=http)
    return port


def _require_port(config: ServeConfig, port: int) -> None:
    try:
        socket.create_connection((config.host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ScopeError(
            f"Ray Serve runs on this cluster already and does not listen to {config.host}:{port}; "
            "give the --host and --port it was started with, or stop it with `serve shutdown`."
        ) from error


async def _until_told(door: Any, plan: Plan, say: Callable[[str], None]) -> int:
    told = asyncio.Event()
    drain = 0.0

    def stop(seconds: float) -> None:
        nonlocal drain
        drain = 0.0 if told.is_set() else seconds
        told.set()

    restore = on_signals(stop, plan.config.drain)
    try:
        loading, ended = asyncio.ensure_future(_name(door)), asyncio.ensure_future(told.wait())
        await asyncio.wait((loading, ended), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            say(f"{loading.result()} is ready: {plan.least} to {plan.most} replicas of {plan.config.seats} seats.")
        await ended
        if drain:
            say(f"Nobody is let in any more; games end within {drain:.0f} seconds. Again to stop at once.")
            draining = asyncio.ensure_future(_drain(door, drain))
            while not draining.done() and drain:
                await asyncio.wait((draining,), timeout=0.1)
        await door.close.remote()
    finally:
        restore()
    say("Stopped; recordings are closed.")
    return 0


async def _name(door: Any) -> str:
    return str(await door.wait.remote())


async def _drain(door: Any, seconds: float) -> None:
    await door.drain.remote(seconds)
