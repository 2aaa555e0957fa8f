// What the npm client does with a server, one story each; tests/conformance/test_npm_client.py
// says what must come of it.
//
//     node tests/conformance/npm_client.mjs STORY URL
//
// It prints one JSON object. URL is a stream that does not exist yet.

import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"

const JSON_TYPE = "application/json"
const MANY = 200

const numbers = (count) => Array.from({ length: count }, (_, n) => n)
const create = (url, contentType = JSON_TYPE) =>
  DurableStream.create({ url, contentType, warnOnHttp: false })
const everything = async (url) => {
  const read = await stream({ url, live: false, warnOnHttp: false })
  return { items: await read.json(), upToDate: read.upToDate, closed: read.streamClosed }
}
const failure = async (promise) => {
  try {
    await promise
  } catch (error) {
    return { name: error.name, status: error.status }
  }
  return null
}

// Loses every third answer, after the server has acted, and asks again, as a client must.
const losing = () => {
  let answers = 0
  let lost = 0
  const fetchAgain = async (url, init) => {
    for (;;) {
      const answer = await fetch(url, init)
      if (answers++ % 3 !== 0) return answer
      lost++
      await answer.body?.cancel()
    }
  }
  return { fetch: fetchAgain, lost: () => lost }
}

// Reads live until the stream is closed, while `write` writes.
const tail = async (url, options, write) => {
  const reading = await stream({ url, warnOnHttp: false, ...options })
  const items = []
  const read = async () => {
    for await (const item of reading.jsonStream()) items.push(item)
  }
  await Promise.all([read(), write()])
  return { items, closed: reading.streamClosed, offset: reading.offset }
}

const stories = {
  async appendAndRead(url) {
    const handle = await create(url)
    await handle.append(JSON.stringify({ n: 0 }))
    // Without awaiting each: the client puts what waits into one request.
    await Promise.all(numbers(20).map((n) => handle.append(JSON.stringify({ n: n + 1 }))))
    const head = await handle.head()
    const read = await stream({ url, live: false, warnOnHttp: false })
    return { items: await read.json(), offset: read.offset, tail: head.offset, type: head.contentType }
  },

  async bytes(url) {
    const handle = await create(url, "application/octet-stream")
    const sent = Uint8Array.from({ length: 100_000 }, (_, n) => (n * 31) % 256)
    for (let at = 0; at < sent.length; at += 10_000) await handle.append(sent.slice(at, at + 10_000))
    await handle.close()
    const read = await stream({ url, live: false, warnOnHttp: false })
    const live = await stream({ url, offset: "-1", live: "sse", warnOnHttp: false })
    const same = (got) => Buffer.compare(got, sent) === 0
    return { caughtUp: same(await read.body()), live: same(await live.body()) }
  },

  async oneLongPost(url) {
    const handle = await create(url, "text/plain")
    async function* words() {
      for (const n of numbers(MANY)) {
        yield `${n} `
        if (n % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
    await handle.appendStream(words())
    const read = await stream({ url, live: false, warnOnHttp: false })
    return { text: await read.text() }
  },

  async tail(url, live) {
    const handle = await create(url)
    return await tail(url, { offset: "-1", live }, async () => {
      for (const n of numbers(MANY)) await handle.append(JSON.stringify(n))
      await handle.close({ body: JSON.stringify("end") })
    })
  },

  async resume(url, live) {
    const handle = await create(url)
    for (const n of numbers(10)) await handle.append(JSON.stringify(n))
    const first = await stream({ url, live: false, warnOnHttp: false })
    const before = await first.json()
    for (const n of numbers(10)) await handle.append(JSON.stringify(10 + n))
    const rest = await tail(url, { offset: first.offset, live }, async () => {
      await handle.close()
    })
    return { before, after: rest.items, closed: rest.closed }
  },

  async fromNow(url, live) {
    const handle = await create(url)
    await handle.append(JSON.stringify("old"))
    return await tail(url, { offset: "now", live }, async () => {
      await handle.append(JSON.stringify("new"))
      await handle.close()
    })
  },

  async close(url) {
    const handle = await create(url)
    await handle.append(JSON.stringify(1))
    const { finalOffset } = await handle.close({ body: JSON.stringify(2) })
    const again = await handle.close()
    return {
      ...(await everything(url)),
      finalOffset,
      again: again.finalOffset,
      closeWithBody: await failure(handle.close({ body: JSON.stringify(3) })),
      append: await failure(handle.append(JSON.stringify(3))),
      head: (await handle.head()).streamClosed,
    }
  },

  async errors(url) {
    const missing = await failure(stream({ url, live: false, warnOnHttp: false }))
    await create(url)
    const exists = await failure(create(url, "text/plain"))
    const handle = new DurableStream({ url, contentType: JSON_TYPE, warnOnHttp: false })
    await handle.append("1", { seq: "b" })
    const order = await failure(handle.append("2", { seq: "a" }))
    await handle.delete()
    const { exists: there } = await handle.head()
    return { missing, exists, order, again: await failure(handle.delete()), there }
  },

  async producer(url) {
    const producer = new IdempotentProducer(await create(url), "writer", {
      lingerMs: 1,
      maxBatchBytes: 40,
      maxInFlight: 5,
    })
    for (const n of numbers(MANY)) producer.append(JSON.stringify(n))
    await producer.flush()
    const { finalOffset } = await producer.close(JSON.stringify("end"))
    return { ...(await everything(url)), finalOffset, requests: producer.nextSeq }
  },

  async producerThatRetries(url) {
    const line = losing()
    const producer = new IdempotentProducer(await create(url), "writer", {
      fetch: line.fetch,
      lingerMs: 1,
      maxBatchBytes: 40,
      maxInFlight: 5,
    })
    for (const n of numbers(MANY)) producer.append(JSON.stringify(n))
    await producer.close(JSON.stringify("end"))
    return { ...(await everything(url)), lost: line.lost() }
  },

  async producerThatRestarts(url) {
    const handle = await create(url)
    let told = null
    const old = new IdempotentProducer(handle, "writer", {
      epoch: 1,
      onError: (error) => {
        told = { name: error.name, currentEpoch: error.currentEpoch }
      },
    })
    old.append(JSON.stringify("old"))
    await old.flush()
    const fresh = new IdempotentProducer(handle, "writer", { autoClaim: true })
    fresh.append(JSON.stringify("new"))
    await fresh.flush()
    old.append(JSON.stringify("a zombie's"))
    await old.flush()
    return { ...(await everything(url)), epoch: fresh.epoch, told }
  },
}

const [story, url, ...rest] = process.argv.slice(2)
console.log(JSON.stringify(await stories[story](url, ...rest)))
process.exit(0)
