"""Random conversations on plain sockets, and an oracle that knows which answers may come back.

    python -m tests.fuzz --requests 100000

A *conversation* is what one connection does: right and wrong requests, the steps in which their
bytes are sent (whole, in pieces, byte by byte), pauses, waits, and how the client leaves. It is
made only from a seed and a number, so each can be made again: `--replay SEED:NUMBER`. Every
connection has a mark of its own. The application answers only with the mark in the requested path,
so bytes that belong to another connection are found.

`conversation.py` defines a conversation, `requests.py` has the requests, `generate.py` mixes them,
`drive.py` plays many at the same time, `answers.py` parses what came, `oracle.py` judges it,
`target.py` starts the server and compares what it holds before and after, and `shrink.py` makes a
conversation that failed shorter, as long as it still fails.
"""
