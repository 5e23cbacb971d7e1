"""`scope-play serve`: the app on a machine with a GPU, played from a browser or a window elsewhere."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.commands.arguments import (
    add_memory_options,
    add_stream_options,
    add_weight_options,
    as_path,
)
from scope_play.errors import ScopeError
from scope_play.serve.config import SHORTEST_TOKEN, TOKEN_VARIABLE

if TYPE_CHECKING:
    from scope_play.loading.outlook import Outlook
    from scope_play.loading.request import LoadRequest


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="nano", help="nano (the default) or a folder of weights")
    add("--host", default="127.0.0.1", help="the address to listen on; by default only this machine's own")
    add("--port", type=int, default=8710, help="0 takes any that is free")
    add("--seats", type=int, default=2, help="players at a time; further ones wait")
    add(
        "--token-file", type=as_path, metavar="FILE", help=f"the secret in the address; else {TOKEN_VARIABLE}, or drawn"
    )
    add("--tls-cert", type=as_path, metavar="PEM", help="for https, with --tls-key")
    add("--tls-key", type=as_path, metavar="PEM")
    add("--insecure-lan", action="store_true", help="without TLS on other addresses than this machine's own")
    add("--name", action="append", default=[], help="a host name that browsers may call it by")
    add("--record", type=as_path, metavar="DIR", help="where recordings stay; without it until the server stops")
    add("--drain", type=float, default=60.0, metavar="SECONDS", help="what games still get after a SIGTERM")
    add("--history-mb", type=int, default=512, help="for going back, all seats together")
    add("--device", help="cpu, cuda or cuda:N")
    add("--ray", action="store_true", help="on a Ray cluster, this machine's or one begun here, a replica for each GPU")
    add("--replicas", metavar="N", help="with --ray: how many, or 1-8 to grow with players")
    add_stream_options(parser)
    add_memory_options(parser)
    add_weight_options(parser)


def run(args: argparse.Namespace) -> int:
    from scope_play.serve.config import ServeConfig

    config = ServeConfig(
        host=args.host,
        port=args.port,
        seats=args.seats,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        insecure_lan=args.insecure_lan,
        names=tuple(name.lower() for name in args.name),
        record=args.record,
        drain=args.drain,
        history_mb=args.history_mb,
    )
    if args.replicas and not args.ray:
        raise ScopeError("--replicas needs --ray; add it, or start a server for each GPU.")
    token, request = read_token(args.token_file), request_of(args)

    def say(line: str) -> None:
        print(line, flush=True)

    if args.ray:
        try:
            from scope_play.serve.cluster.deploy import deploy
        except ImportError as error:
            raise ScopeError(f"--ray needs {error.name}; install it with pip install 'scope-play[ray]'.") from error
        return deploy(request, config, args.replicas, token, say)
    try:
        from scope_play.serve.run import serve
    except ImportError as error:
        raise ScopeError(f"serving needs {error.name}; install it with pip install 'scope-play[serve]'.") from error
    return serve(request, config, token, say)


def look_ahead(args: argparse.Namespace) -> Outlook:
    """What `run` will take with all its seats, but for what is kept to go back. Raises ScopeError as it would."""
    from scope_play.loading.outlook import expect

    return expect(request_of(args), seats=args.seats)


def request_of(args: argparse.Namespace) -> LoadRequest:
    from scope_play.loading.request import STREAM_FIELDS, LoadRequest

    return LoadRequest(
        args.model,
        device=args.device,
        **{name: getattr(args, name) for name in STREAM_FIELDS},
        precision=args.precision,
        decoder=args.decoder,
        offload=args.offload,
        wan=args.wan,
        lora=tuple(args.lora),
    )


def read_token(file: Path | None) -> str:
    """From the file, the environment, or drawn: never from the arguments, which every user of the machine can read."""
    import secrets

    if file is None:
        token = os.environ.pop(TOKEN_VARIABLE, "")
    else:
        try:
            token = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ScopeError(
                f"the token file {file} cannot be read ({error}); write one line of text there."
            ) from error
    if not token and file is None:
        return secrets.token_urlsafe(32)
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.replace("-", "").replace("_", "").isalnum():
        raise ScopeError(
            f"the token has {len(token)} characters; give {SHORTEST_TOKEN} or more letters, digits, - and _, no others."
        )
    return token
