"""Write the reference of the public API, from its docstrings, as HTML: `make reference`.

`python scripts/make_reference.py DIRECTORY`
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path

PAGES: dict[str, tuple[str, ...]] = {
    "tailrace": (),
    "tailrace.errors": (),
    "tailrace.limits": (),
    "tailrace.streams": (
        *("ProgressPart", "ProgressState", "Reader", "Step", "SyncReader", "SyncRun", "Thinned"),
    ),
    "tailrace.store": (
        *("Append", "Appended", "Change", "Chunk", "Created", "Fork", "Mark", "MemoryStore"),
        *("NewStream", "Offset", "Slice", "Store", "StreamInfo", "open_store"),
    ),
    "tailrace.protocol": ("Action", "DurableStreams", "ProtocolOptions", "Right"),
    "tailrace.subscriptions": (),
    "tailrace.connection": ("AttachOffer", "Attached", "Connection", "attach_offer"),
    "tailrace.framing": ("Carries", "Framing"),
    "tailrace.compat.sse_starlette": (),
    "tailrace.server": (),
    "tailrace.testing": (),
}
"""Each module with the names that its page shows; none: all that it exports.

Packages export more than that, to each other.
"""


def write(directory: Path) -> None:
    """Write a page for each module, an index and what a search needs."""
    import pdoc
    import pdoc.render

    for module, names in PAGES.items():
        if names:
            vars(import_module(module))["__all__"] = list(names)
    pdoc.render.configure(docformat="google", show_source=False, footer_text="Tailrace")
    with warnings.catch_warnings():
        # In a class that has a method `list`, pdoc takes the annotation `list[str]` for it.
        warnings.filterwarnings("ignore", "Error parsing type annotation")
        pdoc.pdoc(*PAGES, output_directory=directory)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
