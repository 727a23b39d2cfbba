#!/usr/bin/env node
// Keeps how tasks stand, and their results, in a SQLite file: acts on each message once and in order.
//
//     npm install
//     AMQP_URL=amqp://guest:guest@localhost:5672 node consumer.js tasks.sqlite
//
// Change `act` to what your system does with a message. Settings: AMQP_URL, GLYPH_PREFIX (glyph), QUEUE, BINDING.

import amqp from "amqplib";
import Database from "libsql";

const URL = process.env.AMQP_URL ?? "amqp://guest:guest@localhost:5672";
const PREFIX = process.env.GLYPH_PREFIX ?? "glyph";
const QUEUE = process.env.QUEUE ?? `${PREFIX}.task-states`;
const BINDING = process.env.BINDING ?? "workflow.#";
// How many messages may be on their way to this program. They are acted on one after the other.
const PREFETCH = 50;
const WAIT_MS_MAX = 30_000;

const database = new Database(process.argv[2] ?? "tasks.sqlite");
database.exec(`
  PRAGMA journal_mode = WAL;
  -- The ids of messages that have been acted on. Ids older than any that can still come may be deleted.
  CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP);
  CREATE TABLE IF NOT EXISTS tasks (task_id TEXT PRIMARY KEY, sequence TEXT, workflow TEXT, status TEXT, result TEXT);
`);
const note = database.prepare("INSERT OR IGNORE INTO seen (id) VALUES (?)");
// What comes again from the feed, or after a nack, must not replace what is newer.
const keep = database.prepare(`
  INSERT INTO tasks VALUES (?, ?, ?, ?, ?) ON CONFLICT (task_id) DO UPDATE
  SET sequence = excluded.sequence, workflow = excluded.workflow, status = excluded.status, result = excluded.result
  WHERE excluded.sequence > tasks.sequence`);

// Runs in the transaction that notes the id: either both are kept, or neither.
//
// What leaves the database (a mail, a call) cannot be part of it. Give such a call the message's id as its
// idempotency key, or write down here what is to be done and do it from there.
function act(message) {
  if (message.sequence === undefined) return; // about a whole workflow
  const status = message.type.split(".")[3]; // completed, of dev.glyph.workflow.completed.v1
  const result = status === "completed" ? JSON.stringify(message.data.output.result) : null;
  keep.run(message.subject, message.sequence, message.data.workflow, status, result);
}

// Acts on a message unless it has been acted on before.
const handle = database.transaction((message) => {
  if (note.run(message.id).changes === 1) act(message);
});

// Until the connection fails or the program is asked to stop.
async function consume(stopping) {
  const connection = await amqp.connect(URL, { clientProperties: { connection_name: `consumer of ${QUEUE}` } });
  try {
    await new Promise((resolve, reject) => {
      stopping.addEventListener("abort", resolve, { once: true });
      connection.on("error", reject);
      connection.on("close", () => reject(new Error("the connection was closed")));
      read(connection, stopping, reject).catch(reject);
    });
  } finally {
    await connection.close().catch(() => {});
  }
}

async function read(connection, stopping, fail) {
  const channel = await connection.createChannel();
  channel.on("error", fail);
  // A queue of one's own. One reader at a time keeps the order; others wait in case it dies.
  await channel.assertQueue(QUEUE, {
    durable: true,
    arguments: { "x-queue-type": "quorum", "x-single-active-consumer": true, "x-delivery-limit": 2 ** 31 - 1 },
  });
  await channel.bindQueue(QUEUE, `${PREFIX}.events`, BINDING);
  await channel.prefetch(PREFETCH);
  let failed = false;
  await channel.consume(QUEUE, (delivery) => {
    if (delivery === null) return fail(new Error("the queue was deleted"));
    if (failed || stopping.aborted) return;
    try {
      handle(JSON.parse(delivery.content));
      channel.ack(delivery);
    } catch (error) {
      // A failure ends the connection without an ack: this message and all after it come again, in order.
      failed = true;
      fail(error);
    }
  });
  console.log(`reading ${QUEUE}`);
}

const aborted = (signal) =>
  new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener("abort", resolve, { once: true })));

async function main() {
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"]) process.once(name, () => stop.abort());
  let wait = 1_000;
  while (!stop.signal.aborted) {
    const began = Date.now();
    try {
      await consume(stop.signal);
    } catch (error) {
      if (Date.now() - began > WAIT_MS_MAX) wait = 1_000;
      console.error(`${error.message}; again in ${wait / 1_000} s`);
      await Promise.race([new Promise((resolve) => setTimeout(resolve, wait)), aborted(stop.signal)]);
      wait = Math.min(2 * wait, WAIT_MS_MAX);
    }
  }
  database.close();
}

await main();
