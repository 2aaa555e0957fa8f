"""Conversations on raw sockets, made at random, and an oracle that knows what may come back.

    python -m tests.fuzz --requests 100000

A *conversation* is what one connection does: requests, right and wrong ones, and the steps in which
their bytes are sent (whole, in pieces, byte by byte), pauses, waits, and how the client leaves. It
is made from a seed and a number alone, so that each can be made again: `--replay SEED:NUMBER`.
Every connection has a mark of its own. The application answers with nothing but the mark of the
path that was asked for, so a byte that belongs to somebody else is seen.

`conversation.py` says what a conversation is, `requests.py` has the requests, `generate.py` mixes
them, `drive.py` plays many at once, `answers.py` reads what came, `oracle.py` judges it,
`target.py` starts the server and looks at what it holds before and after, `shrink.py` takes steps
away from a failure while it stays one.
"""
