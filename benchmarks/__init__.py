"""Tailrace against its peers: one script per row, both sides in turn in one run.

`python -m benchmarks` runs every row and writes `benchmarks/RESULTS.md`;
`python -m benchmarks ROW...` runs some of them and only prints.

How it is measured:

* Each side is a uvicorn of its own, started by the same command with another application. Some rows
  compare with nginx, granian or the reference server of Durable Streams, and say "not installed"
  if that one is missing.
* The sides take turns (A B A B A B), so that other work of the machine affects both. The median of
  the turns counts.
* CPU is what the kernel counts for the server's process, with all its threads, also those that have
  ended. If the server has several processes, it is the sum of all.
* Every transfer is compared with what the generator gave: byte for byte if both sides send the same
  bytes, otherwise by the data (formats differ in spaces in JSON and line ends in SSE).
* The client keeps what it received and checks it after the clock was stopped, so that the check is
  not measured.
"""
