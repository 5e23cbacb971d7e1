"""How a server was started, and what it grants."""

from __future__ import annotations

import ipaddress
import platform
from dataclasses import dataclass
from pathlib import Path

from scope_play.errors import ScopeError

PORT = 8710
TOKEN_VARIABLE = "SCOPE_PLAY_TOKEN"
SHORTEST_TOKEN = 16
MOST_SEATS = 64


@dataclass(frozen=True)
class ServeConfig:
    """names: host names that browsers may call it by, beside its addresses. Times in seconds: `hold` keeps the seat
    of a lost connection, `pause_after` and `free_after` count from the last input, `drain` is what games still
    get after a SIGTERM."""

    host: str = "127.0.0.1"
    port: int = PORT
    seats: int = 2
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure_lan: bool = False
    names: tuple[str, ...] = ()
    record: Path | None = None
    history_mb: int = 512
    waiting: int = 16
    connections: int = 64
    hello: float = 5.0
    hold: float = 120.0
    pause_after: float = 600.0
    free_after: float = 1800.0
    drain: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.seats <= MOST_SEATS:
            raise ScopeError(f"--seats {self.seats} must lie between 1 and {MOST_SEATS}; choose another number.")
        if not 0 <= self.port <= 65535:
            raise ScopeError(f"--port {self.port} is no port; give a number from 0 (any free one) to 65535.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ScopeError("--tls-cert and --tls-key belong together; give both or neither.")
        if not (self.is_loopback or self.tls_cert or self.insecure_lan):
            raise ScopeError(
                f"--host {self.host} lets others on the network in, and what they send could be read and changed on "
                "its way; give --tls-cert and --tls-key, or stay on this machine and use `ssh -L`, or add "
                "--insecure-lan."
            )

    @property
    def known_names(self) -> tuple[str, ...]:
        """What browsers may call it by: what was given and, beyond this machine, the machine's own name."""
        return self.names if self.is_loopback else (*self.names, platform.node().lower())

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
