"""The server as an ASGI application: the page and its parts, pictures in, clips out, and the socket."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib import resources

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from scope_play.errors import ScopeError
from scope_play.loading.request import display_name
from scope_play.play.menus.scenes import shipped_scenes
from scope_play.serve.archive import zipped
from scope_play.serve.guard import Asgi, Guard, bearer, same_token
from scope_play.serve.lobby import Lobby
from scope_play.serve.pictures import MOST_UPLOAD, Pictures, check_picture
from scope_play.serve.visit import Visit
from scope_play.wire import messages

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(lobby: Lobby, token: str, model: str) -> Asgi:
    """The whole server for players who know `token`; `model` is the name of what they play."""
    rooms = _Rooms(lobby, token, Pictures(shipped_scenes(display_name(model))))
    private: list[BaseRoute] = [
        Route("/pictures", rooms.locked(rooms.upload), methods=["POST"]),
        Route("/scenes", rooms.locked(rooms.scenes)),
        Route("/scenes/{number:int}", rooms.locked(rooms.scene)),
        Route("/clips", rooms.locked(rooms.clips)),
        Route("/clips/{name}/zip", rooms.locked(rooms.clip_zip)),
        Route("/clips/{name}/video", rooms.locked(rooms.clip_video)),
    ]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tending = asyncio.create_task(lobby.tend())
        yield
        tending.cancel()
        with suppress(asyncio.CancelledError):
            await tending

    app = Starlette(routes=[*_page(), *private, WebSocketRoute("/ws", rooms.socket)], lifespan=lifespan)
    return Guard(app, lobby.config.known_names)


def _page() -> list[BaseRoute]:
    """The page's files, read once: what is not in this list cannot be asked for."""
    routes: list[BaseRoute] = []
    for file in resources.files("scope_play.serve").joinpath("web").iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in KINDS:
            response = Response(file.read_bytes(), media_type=KINDS[suffix])
            path = "/" if file.name == "index.html" else f"/web/{file.name}"
            routes.append(Route(path, _constant(response)))
    return routes


def _constant(response: Response) -> Endpoint:
    async def answer(request: Request) -> Response:
        return response

    return answer


class _Rooms:
    def __init__(self, lobby: Lobby, token: str, pictures: Pictures) -> None:
        self._lobby, self._token, self._pictures = lobby, token, pictures
        self._visits = 0

    def locked(self, endpoint: Endpoint) -> Endpoint:
        """Only with the token; what goes wrong is a sentence."""

        async def answer(request: Request) -> Response:
            if not same_token(bearer(request.headers.get("authorization", "")), self._token):
                return PlainTextResponse("The token is not the server's; open the address that it printed.", 401)
            try:
                return await endpoint(request)
            except ScopeError as error:
                return PlainTextResponse(str(error), 400)

        return answer

    async def socket(self, socket: WebSocket) -> None:
        if self._visits >= self._lobby.config.connections:
            await socket.close(messages.FULL)
            return
        self._visits += 1
        try:
            await Visit(socket, self._lobby, self._pictures, self._token).run()
        finally:
            self._visits -= 1

    async def upload(self, request: Request) -> Response:
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > MOST_UPLOAD:
                return PlainTextResponse(f"The picture is larger than {MOST_UPLOAD >> 20} MB; make it smaller.", 413)
        await asyncio.to_thread(check_picture, bytes(data))
        return JSONResponse({"id": self._pictures.add(bytes(data))})

    async def scenes(self, request: Request) -> Response:
        return JSONResponse([scene.name for scene in self._pictures.scenes])

    async def scene(self, request: Request) -> Response:
        """A picture to choose by; scene 0 is the model's own."""
        from PIL import Image

        number = int(request.path_params["number"])
        if number == 0:
            picture = (await self._lobby.setting()).picture
            if picture is None:
                raise ScopeError("this model has no scene of its own; send a picture.")
            out = io.BytesIO()
            Image.fromarray(picture).save(out, "PNG")
            return Response(out.getvalue(), media_type="image/png")
        if not 0 < number < len(self._pictures.scenes) or (path := self._pictures.scenes[number].path) is None:
            raise ScopeError(f"there is no scene {number}; choose one of the list.")
        return FileResponse(path)

    async def clips(self, request: Request) -> Response:
        return JSONResponse(self._lobby.archive.listing())

    async def clip_zip(self, request: Request) -> Response:
        clip = self._lobby.archive.clip(request.path_params["name"])
        named = {"content-disposition": f'attachment; filename="{clip.path.name}.zip"'}
        return StreamingResponse(zipped(clip), media_type="application/zip", headers=named)

    async def clip_video(self, request: Request) -> Response:
        return FileResponse(self._lobby.archive.clip(request.path_params["name"]).path / "video.mp4")
