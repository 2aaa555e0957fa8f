// The tour's page: one Card for each endpoint, and one reader for each way in which a browser can
// read a stream. A reader gets the card and an abort signal, and resolves when the stream has ended.

const KEPT_CHARACTERS = 6000; // of a long text, only the end is shown
const KEPT_PRICES = 60;
const KEPT_TIMES = 3; // when the first pieces arrived
const PATIENCE = 2000; // milliseconds until the page says that a stream waits for a connection
const number = new Intl.NumberFormat("en");

class Cut extends Error {}

class Card {
  constructor(element) {
    this.element = element;
    this.path = element.dataset.path;
    this.read = readers[element.dataset.stream];
    this.output = element.querySelector(".output");
    this.#furnish();
    this.state = "ready";
    this.#reset();
  }

  get running() {
    return this.state === "waiting" || this.state === "streaming";
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** Reads the stream until its end or stop(); with goesOn, from where stop() ended it. */
  async start({ goesOn = false } = {}) {
    this.stop();
    const stopper = (this.stopper = new AbortController());
    if (!(goesOn && this.last)) this.#reset();
    this.asked = performance.now();
    this.#become("waiting");
    try {
      await this.read(this, stopper.signal);
      if (!stopper.signal.aborted) this.#become("complete");
    } catch (error) {
      if (!(error instanceof Cut)) console.error(error);
      if (!stopper.signal.aborted) this.#become("cut");
    }
  }

  stop() {
    this.stopper?.abort(); // also after the stream has ended: a reader cleans up on abort
    if (this.running) this.#become("stopped");
  }

  /** Counts a piece that arrived; the first one starts the state "streaming". */
  arrived(bytes) {
    const after = performance.now() - this.begun;
    this.firstByte ??= after;
    this.pieces += 1;
    this.bytes += bytes;
    if (this.times.length < KEPT_TIMES) this.times.push(Math.round(after));
    this.#become("streaming");
  }

  /** The connection was cut, and the browser reconnects by itself. */
  interrupted() {
    this.asked = null;
    this.#become("waiting");
  }

  /** Whether nothing has come for so long that the browser has surely not sent the request yet. */
  get isHeldBack() {
    const since = this.state === "waiting" ? this.asked : null;
    return since !== null && performance.now() - since > PATIENCE;
  }

  #become(state) {
    this.state = state;
    soon(this);
  }

  #reset() {
    this.bytes = 0;
    this.pieces = 0;
    this.firstByte = null;
    this.times = [];
    this.prices = [];
    this.last = ""; // the id of the last event, if the stream can go on after it
    this.begun = performance.now();
    this.paint = null;
    soon(this);
  }

  #furnish() {
    this.element.prepend(document.getElementById("top").content.cloneNode(true));
    this.element.append(document.getElementById("bottom").content.cloneNode(true));
    this.find(".route").textContent = `GET ${this.path}`;
    this.badge = this.find(".state");
    this.button = this.find(".bottom button");
    this.button.addEventListener("click", () => (this.running ? this.stop() : this.start()));
    const code = this.find(".quiet");
    code.setAttribute("aria-label", `Code of ${this.path}`);
    code.addEventListener("click", () => showCode(this.path));
    for (const choice of this.element.querySelectorAll("select, [type=radio]")) {
      choice.addEventListener("change", () => this.start());
    }
  }

  /** Shows what changed; called at most once for each frame of the screen. */
  draw() {
    this.paint?.();
    if (this.badge.dataset.state !== this.state) {
      this.badge.dataset.state = this.badge.textContent = this.state;
      this.button.textContent = this.running ? "Stop" : "Start";
      this.button.setAttribute("aria-label", `${this.button.textContent} ${this.path}`);
    }
    const facts = this.find(".bottom dl");
    const wanted = Object.entries(this.#facts());
    while (facts.children.length < wanted.length) {
      facts.append(document.createElement("div"));
      facts.lastChild.append(document.createElement("dt"), document.createElement("dd"));
    }
    wanted.forEach(([name, value], index) => {
      const [term, detail] = facts.children[index].children;
      if (term.textContent !== name) term.textContent = name;
      if (detail.textContent !== value) detail.textContent = value;
    });
  }

  #facts() {
    const first = this.firstByte === null ? "–" : milliseconds(this.firstByte);
    if (this.element.dataset.stream === "camera") {
      const { naturalWidth: width, naturalHeight: height } = this.find("img");
      return { "First picture": first, Size: width ? `${width} × ${height}` : "–" };
    }
    const pieces = this.element.dataset.stream === "text" ? "Reads" : "Events";
    return { Received: size(this.bytes), "First byte": first, [pieces]: number.format(this.pieces) };
  }
}

const readers = {
  /** A body of text, by fetch and a reader: shown as it arrives. */
  async text(card, signal) {
    const accept = card.find("input:checked")?.value ?? "text/plain";
    const parameter = card.find("[data-parameter]");
    const query = parameter ? `?${parameter.dataset.parameter}=${parameter.value}` : "";
    const letters = new TextDecoder();
    let text = "";
    card.paint = () => {
      card.output.textContent = text;
      card.output.scrollTop = card.output.scrollHeight;
      drawNote(card);
    };
    try {
      const response = await fetch(card.path + query, { headers: { accept }, signal });
      if (!response.ok) throw new Cut(response.status);
      for await (const piece of pieces(response.body)) {
        if (signal.aborted) return;
        text = (text + letters.decode(piece, { stream: true })).slice(-KEPT_CHARACTERS);
        card.arrived(piece.length);
      }
    } catch (error) {
      if (!signal.aborted) throw new Cut("the body ended early", { cause: error });
    }
  },

  /** A job's progress: server-sent events, ended by one of the type "done". */
  progress(card, signal) {
    const show = ({ percent, message, seconds_left: left }) => {
      card.find("[data-percent]").textContent = percent;
      card.find("progress").value = percent;
      card.find("[data-message]").textContent = message;
      card.find("[data-left]").textContent = left > 0 ? `${left.toFixed(1)} s left` : "";
    };
    show({ percent: 0, message: "Asking for it", seconds_left: 0 });
    return new Promise((resolve, reject) => {
      const events = source(card, signal, resolve, show);
      events.onerror = () => {
        // To reconnect would start the job again.
        events.close();
        reject(new Cut("the job was cut off"));
      };
      events.addEventListener("done", (event) => {
        count(card, event);
        show(JSON.parse(event.data));
        events.close();
        resolve();
      });
    });
  },

  /** A report that the server writes even if nobody reads it: a reader goes on where it was. */
  report(card, signal) {
    const show = ({ percent, message, left }) => {
      card.find("[data-percent]").textContent = Math.floor(percent ?? 0);
      card.find("progress").value = percent ?? 0;
      card.find("[data-message]").textContent = message ?? "";
      card.find("[data-left]").textContent = left > 0 ? `${left.toFixed(1)} s left` : "";
    };
    show({ message: "Asking for it" });
    return durable(card, signal, `/report/${visitor}`, "progress", (event) => {
      show(JSON.parse(event.data));
    });
  },

  /** A conversation that the server keeps: the questions, and each answer while it is written. */
  async chat(card, signal) {
    const response = await fetch(`/chat/${visitor}`, { signal }).catch(() => null);
    if (!response?.ok) {
      if (signal.aborted) return;
      throw new Cut("the conversation could not be read");
    }
    const turns = await response.json();
    card.arrived(0);
    card.output.replaceChildren(...(turns.length ? [] : [bubble("hint", "Ask something.")]));
    await Promise.all(turns.map((turn) => answered(card, signal, turn)));
  },

  /** Prices without end: server-sent events, which the browser resumes after a cut. */
  ticker(card, signal) {
    const { prices } = card;
    card.paint = () => drawPrices(card, prices);
    return new Promise((resolve, reject) => {
      const events = source(card, signal, resolve, (quote, event) => {
        card.last = event.lastEventId;
        prices.push(quote.price);
        if (prices.length > KEPT_PRICES) prices.shift();
        card.find("[data-symbol]").textContent = quote.symbol;
        card.find("[data-number]").textContent = event.lastEventId;
      });
      events.onerror = () => {
        if (events.readyState === EventSource.CLOSED) reject(new Cut("refused"));
        else card.interrupted();
      };
    });
  },

  /** Motion JPEG: the browser's own image element reads it. */
  camera(card, signal) {
    const image = card.find("img");
    return new Promise((resolve, reject) => {
      // The page is not told when such a stream is cut; it only sees that the picture has no size.
      const look = setInterval(() => {
        if (card.firstByte !== null && image.naturalWidth === 0) reject(new Cut("no picture"));
      }, 500);
      signal.addEventListener("abort", () => {
        clearInterval(look);
        image.removeAttribute("src"); // this closes the connection
        image.hidden = true;
        resolve();
      });
      image.onload = () => card.arrived(0);
      image.onerror = () => reject(new Cut("no picture"));
      image.src = `${card.path}?${Date.now()}`; // a new address, or the old picture stays
      image.hidden = false;
    });
  },
};

/** An EventSource whose messages are JSON, closed when the card is stopped. */
function source(card, signal, stopped, show) {
  // A browser that reconnects by itself sends the last id; a new EventSource does not know it.
  const events = new EventSource(card.last ? `${card.path}?after=${card.last}` : card.path);
  signal.addEventListener("abort", () => {
    events.close();
    stopped();
  });
  events.onmessage = (event) => {
    count(card, event);
    show(JSON.parse(event.data), event);
  };
  return events;
}

/** A run's events, from the first to the end; after a cut, from where it was. */
function durable(card, signal, path, kind, show) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(path);
    const over = (settle, result) => {
      events.close();
      settle(result);
    };
    signal.addEventListener("abort", () => over(resolve));
    events.addEventListener(kind, (event) => {
      count(card, event);
      show(event);
    });
    events.addEventListener("end", () => over(resolve));
    events.addEventListener("error", (event) => {
      // With data, the server says that the run has failed. Without, the connection was cut, and
      // the browser reconnects by itself unless it was refused.
      if (event.data) over(reject, new Cut(JSON.parse(event.data).error.message));
      else if (events.readyState === EventSource.CLOSED) over(reject, new Cut("refused"));
      else card.interrupted();
    });
  });
}

/** One question, and its answer as it comes. */
function answered(card, signal, { question, answer }) {
  const words = bubble("answered", "");
  card.output.querySelector(".hint")?.remove();
  card.output.append(bubble("asked", question), words);
  const run = durable(card, signal, `/answers/${answer}`, "message", (event) => {
    words.append(event.data);
    card.output.scrollTop = card.output.scrollHeight;
  });
  return run.catch((cut) => {
    words.dataset.cut = cut.message;
    throw cut;
  });
}

function bubble(kind, text) {
  const paragraph = document.createElement("p");
  paragraph.className = kind;
  paragraph.textContent = text;
  return paragraph;
}

/** This browser's id for the report and the chat; it is stored, so that both are found again. */
const visitor = (localStorage.visitor ??= crypto.randomUUID?.() ?? randomId());

function randomId() {
  // Browsers have randomUUID only on https and on localhost.
  const digits = [...crypto.getRandomValues(new Uint8Array(16))];
  const hex = digits.map((digit) => digit.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** An EventSource does not say how many bytes were sent: the bytes of its data are counted. */
function count(card, event) {
  card.arrived(new TextEncoder().encode(event.data).length);
}

async function* pieces(body) {
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

/** Writes the times, or the average size of a piece, into a card that has a place for them. */
function drawNote(card) {
  const times = card.find("[data-times]");
  if (times) times.textContent = card.times.map((time) => number.format(time)).join(" · ");
  const average = card.find("[data-average]");
  if (average) average.textContent = card.pieces ? size(card.bytes / card.pieces) : "–";
}

function drawPrices(card, prices) {
  if (prices.length === 0) return;
  const last = prices.at(-1);
  const change = (last / (prices.at(-2) ?? last) - 1) * 100;
  const arrow = change < 0 ? "▼" : "▲";
  const label = card.find("[data-change]");
  card.find("[data-price]").textContent = last.toFixed(2);
  label.textContent = `${arrow} ${Math.abs(change).toFixed(2)} %`;
  label.className = change < 0 ? "down" : "up";

  // The height is at least 2 % of the price, or the first two prices would look like a crash.
  const middle = (Math.max(...prices) + Math.min(...prices)) / 2;
  const height = Math.max(Math.max(...prices) - Math.min(...prices), middle * 0.02);
  const x = (index) => ((index * 300) / (KEPT_PRICES - 1)).toFixed(1);
  const y = (price) => (50 - ((price - middle) / height) * 88).toFixed(1);
  const line = prices.map((price, index) => `${x(index)},${y(price)}`).join("L");
  card.find(".line").setAttribute("d", `M${line}`);
  card.find(".area").setAttribute("d", `M0,100L${line}L${x(prices.length - 1)},100Z`);
}

/** Shows the endpoint's code and its models, cut out of the file that is running. */
async function showCode(path) {
  file ??= fetch("/tour.py").then((response) => response.text());
  const blocks = (await file).split("\n\n\n");
  const endpoint = blocks.find((block) => /@router/.test(block) && block.includes(`get("${path}`));
  const models = blocks.filter((block) => endpoint.includes(/^class (\w+)/.exec(block)?.[1]));
  dialog.querySelector("h2").textContent = `GET ${path}`;
  dialog.querySelector("pre").textContent = [...models, endpoint].join("\n\n\n");
  dialog.showModal();
}

let file;
const dialog = document.getElementById("code");
dialog.querySelector("button").addEventListener("click", () => dialog.close());

// Drawing: once for each frame, however many pieces arrive.
const changed = new Set();
function soon(card) {
  if (changed.size === 0) requestAnimationFrame(draw);
  changed.add(card);
}

function draw() {
  for (const card of changed) card.draw();
  changed.clear();
  const open = cards.filter((card) => card.running).length;
  document.getElementById("open-count").textContent = open;
  document.getElementById("byte-count").textContent = size(
    cards.reduce((total, card) => total + card.bytes, 0),
  );
  everything.textContent = open ? "Stop all" : "Start all";
}

function size(bytes) {
  if (bytes < 1000) return `${Math.round(bytes)} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function milliseconds(value) {
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

const everything = document.getElementById("everything");
const cards = [...document.querySelectorAll(".card")].map((element) => new Card(element));
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const movies = cards.filter((card) => card.element.dataset.stream === "camera");

everything.addEventListener("click", () => {
  resting = [];
  const stopping = cards.some((card) => card.running);
  for (const card of cards) stopping ? card.stop() : card.start();
});

// Over HTTP/1.1 a browser opens six connections to a server, for all its tabs and windows together,
// and each open stream needs one. So a hidden page stops its streams, and they go on when it is
// visible again. `pagehide` also comes before the back/forward cache, from which a page can return.
const STAGGER = 80; // milliseconds
let resting = still ? cards.filter((card) => !movies.includes(card)) : [...cards];
let waking;

function rest() {
  clearInterval(waking);
  const running = cards.filter((card) => card.running);
  for (const card of running) card.stop();
  resting = [...running, ...resting];
}

// One after another, after the page was drawn: otherwise the browser's own work would be counted in
// the time to the first byte.
function wake() {
  clearInterval(waking);
  if (document.hidden) return;
  waking = setInterval(() => {
    const card = resting.shift();
    if (!card) clearInterval(waking);
    else if (!card.running) card.start({ goesOn: true });
  }, STAGGER);
}

document.addEventListener("visibilitychange", () => (document.hidden ? rest() : wake()));
addEventListener("pagehide", rest);
addEventListener("pageshow", wake);

const crowded = document.getElementById("crowded");
setInterval(() => {
  crowded.hidden = !cards.some((card) => card.isHeldBack);
}, 500);

const card = (path) => cards.find((one) => one.path === path);
document.querySelector("[data-again]").addEventListener("click", async () => {
  const report = card("/report");
  report.stop();
  await fetch(`/report/${visitor}`, { method: "DELETE" });
  report.start();
});

document.querySelector(".ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [input] = event.target.elements;
  const question = input.value.trim();
  if (!question) return;
  input.value = "";
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ question });
  await fetch(`/chat/${visitor}`, { method: "POST", headers, body });
  card("/chat").start();
});

document.getElementById("origin").textContent = location.origin;
