"""Tailrace against its peers: one script per row, both sides in turn in one run.

`python -m benchmarks` runs every row and writes `benchmarks/RESULTS.md`;
`python -m benchmarks ROW...` runs some of them and only prints.

How it is measured:

* Each side is a uvicorn of its own, started by the same command with another app path; some rows
  have nginx, granian or the reference server of Durable Streams beside it, and say "not installed"
  where one is missing.
* The sides take turns (A B A B A B), so that what else the machine does hits both; the middle
  value counts.
* CPU is the server process's own accounting, of all its threads, those that ended included; of all
  its processes, where it has several.
* Every transfer is checked against what the generator gave: byte for byte where both sides send
  the same bytes, by the data where the formats leave room (spaces in JSON, line ends in SSE).
* The client keeps what it received and looks at it after the clock stopped, so that checking a
  transfer costs it nothing while it is measured.
"""
