// What the official Yjs layer does on streams of a server; tests/conformance/test_yjs.py says what
// must come of it.
//
//     node tests/conformance/yjs.mjs ORIGIN NAME
//
// Its own server stands in front of the streams; its provider syncs two documents through it. It
// prints one JSON object.

import { setTimeout as pause } from "node:timers/promises"

import { YjsProvider } from "@durable-streams/y-durable-streams"
import { YjsServer } from "@durable-streams/y-durable-streams/server"
import { Awareness } from "y-protocols/awareness"
import * as Y from "yjs"

const [, , origin, name] = process.argv
const WORDS = 60
const THRESHOLD = 500 // bytes of updates after which the layer makes a snapshot

const until = async (holds) => {
  while (!(await holds())) await pause(20)
}
const textOf = (doc) => doc.getText("words").toString()

const server = new YjsServer({ port: 0, dsServerUrl: origin, compactionThreshold: THRESHOLD })
await server.start()
const baseUrl = `${server.url}/v1/yjs/${name}`
const providers = []
const joined = async (doc = new Y.Doc()) => {
  const awareness = new Awareness(doc)
  const provider = new YjsProvider({ doc, baseUrl, docId: "page", awareness })
  providers.push(provider)
  await until(() => provider.synced)
  return { doc, awareness, provider }
}
const hasSnapshot = async () => {
  const answer = await fetch(`${baseUrl}/docs/page?offset=snapshot`, { redirect: "manual" })
  return (answer.headers.get("location") ?? "").includes("_snapshot")
}

const found = {}
const one = await joined()
const two = await joined()
for (let word = 0; word < WORDS; word++) {
  const text = one.doc.getText("words")
  text.insert(text.length, `${word} `)
  await until(() => one.provider.synced)
}
await until(() => textOf(two.doc) === textOf(one.doc))
found.synced = textOf(two.doc).split(" ").length - 1

// From a snapshot, whose offset plus one is where the layer reads on.
await until(hasSnapshot)
const three = await joined()
await until(() => textOf(three.doc) === textOf(one.doc))
three.doc.getText("words").insert(0, "first ")
await until(() => textOf(one.doc).startsWith("first ") && textOf(two.doc) === textOf(one.doc))
found.afterSnapshot = textOf(three.doc) === textOf(one.doc)

// Who is here, told by a stream that nobody keeps; until it is heard, for it begins at `now`.
await until(async () => {
  one.awareness.setLocalStateField("user", "ada")
  await pause(50)
  return two.awareness.getStates().get(one.doc.clientID)?.user === "ada"
})
found.awareness = true

// What was written while one was away.
await two.provider.disconnect()
one.doc.getText("words").insert(0, "meanwhile ")
await until(() => one.provider.synced)
await two.provider.connect()
await until(() => textOf(two.doc) === textOf(one.doc))
found.reconnected = textOf(two.doc).includes("meanwhile ")

for (const provider of providers) await provider.destroy()
await server.stop()
console.log(JSON.stringify(found))
process.exit(0)
