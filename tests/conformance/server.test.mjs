// The conformance suite against the server that CONFORMANCE_URL names; tests/conformance/suite.py
// runs this file, since the suite's own command finds no tests below node_modules.

import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({
  baseUrl: process.env.CONFORMANCE_URL,
  longPollTimeoutMs: Number(process.env.CONFORMANCE_LONG_POLL_MS),
  subscriptions: true,
})
