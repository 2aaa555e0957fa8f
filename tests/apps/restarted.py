"""A page whose `EventSource` goes on across restarts, and a download, which delays a restart."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import anyio
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from tailrace import Event, EventSourceResponse, StreamingResponse

app = FastAPI()

PAGE = """<!doctype html><title>Counting</title><script>
const page = "%s/?from=" + location.search.slice(1) + "&";
const tell = (what) => fetch(page + what, {mode: "no-cors"});
const events = new EventSource("/events");
events.onmessage = (event) => tell("number=" + event.data);
events.onerror = () => { if (events.readyState === EventSource.CLOSED) tell("gone=1"); };
</script>"""


@app.get("/page")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE % os.environ["REPORTS"])


@app.get("/events")
async def events() -> EventSourceResponse:
    async def source(last: str | None) -> AsyncIterator[Event]:
        number = int(last or 0)
        while True:
            number += 1
            yield Event(str(number), id=str(number))
            await anyio.sleep(0.3)

    return EventSourceResponse(source)


@app.get("/download")
async def download() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"part"
            await anyio.sleep(0.1)

    return StreamingResponse(parts())
