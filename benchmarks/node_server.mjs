// The reference server of Durable Streams, with its file store.
//
//     node benchmarks/node_server.mjs PORT FOLDER [LONG_POLL_MS]

import { DurableStreamTestServer } from "@durable-streams/server"

const [port, dataDir, longPollTimeout = "30000"] = process.argv.slice(2)

// It tells of every append that took long.
console.info = () => {}

const server = new DurableStreamTestServer({
  host: "127.0.0.1",
  port: Number(port),
  dataDir,
  longPollTimeout: Number(longPollTimeout),
  // Ours does not compress either, and the clients here do not ask for it.
  compression: false,
  webhooks: true,
})
await server.start()

// It waits for open connections when it is stopped; nothing of it is needed afterwards.
process.on("SIGTERM", () => process.exit(0))
