"""An application as a developer writes it, on a system as `tests.machines.lacking` makes it.

`python -m tests.machines.application SYSTEM` prints what a client receives, line by line, first
with one store and then with the other.
"""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tests.machines.lacking import become


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def use(store: str) -> None:
    from fastapi import FastAPI, Request, Response
    from starlette.testclient import TestClient

    from tailrace import (
        EventSourceResponse,
        FileResponse,
        StreamingResponse,
        Streams,
        SyncStreams,
        negotiate,
    )
    from tailrace.app import create_tour

    streams = Streams(store)
    app = FastAPI(lifespan=streams.lifespan)
    app.include_router(streams.router(), prefix="/v1/stream")
    Path("film.txt").write_bytes(b"0123\r\n\x1a789")

    @app.get("/text")
    def text() -> StreamingResponse:
        return StreamingResponse((f"{number} " for number in range(3)), media_type="text/plain")

    @app.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[str]:
        yield "one"

    @app.get("/rows")
    def rows(request: Request) -> Response:
        return negotiate(iter([{"a": 1}]), request)

    @app.get("/film")
    def film() -> FileResponse:
        return FileResponse("film.txt")

    @app.get("/run")
    async def run(request: Request) -> Response:
        begun = await streams.run("r", iter([1, 2]), on_disconnect="continue")
        return begun.response(request)

    with TestClient(app) as client:
        plain = {"accept": "application/jsonl", "accept-encoding": "identity"}
        for path in ("/text", "/events", "/rows", "/film", "/run"):
            say(path, client.get(path, headers=plain).content)
        say("range", client.get("/film", headers={**plain, "range": "bytes=4-7"}).content)
        say("written", client.put("/v1/stream/s", headers={"content-type": "text/plain"}))
    with SyncStreams(store) as sync:
        sync.append("t", "synchronously")
        say("sync", [message.data for message in sync.read("t")])
    with TestClient(create_tour(store)) as client:
        say("tour", len(client.get("/file").content), len(client.get("/").content) > 1000)


if __name__ == "__main__":
    become(sys.argv[1])
    for url in ("memory://", "sqlite:///streams.db"):
        use(url)
