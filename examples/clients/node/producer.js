#!/usr/bin/env node
// Starts a task for each line of a file, as often as it is run: the same line is the same task and the same command.
//
//     npm install
//     AMQP_URL=amqp://guest:guest@localhost:5672 node producer.js sentiment-dual items.jsonl
//
// A line is `{"key": "review-17", "input": {"text": "…"}}`. Prints one line for each outcome that is not as wanted.
// Ends with 0 if every task is started, else with 1. Settings: AMQP_URL, GLYPH_PREFIX (glyph).

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import amqp from "amqplib";

const URL = process.env.AMQP_URL ?? "amqp://guest:guest@localhost:5672";
const PREFIX = process.env.GLYPH_PREFIX ?? "glyph";
// The broker keeps answers to this queue with the connection, and nobody declares it.
const REPLIES = "amq.rabbitmq.reply-to";
const ANSWER_MS_MAX = 30_000;
const ROUNDS_MAX = 10;
const URL_NAMESPACE = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The UUID that a name always has in a namespace (version 5 of RFC 9562).
function uuid5(namespace, name) {
  const hash = createHash("sha1").update(Buffer.from(namespace.replaceAll("-", ""), "hex")).update(name).digest();
  hash[6] = (hash[6] & 0x0f) | 0x50;
  hash[8] = (hash[8] & 0x3f) | 0x80;
  return hash.toString("hex", 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// The commands by their ids. Ids are made of the key, so that whoever sends a line again sends the same command.
function commands(workflow, lines) {
  const made = new Map();
  for (const line of lines) {
    const { key, input } = JSON.parse(line);
    const task_id = uuid5(URL_NAMESPACE, `glyph:task:${key}`); // as `glyph task id KEY`
    const command_id = uuid5(task_id, "start");
    made.set(command_id, { type: "start", command_id, task_id, workflow, input });
  }
  return made;
}

// Publishes every command that has no answer yet, and takes the answers, until all are there or the time is over.
async function send(waiting, answered) {
  const connection = await amqp.connect(URL);
  connection.on("error", () => {}); // what was under way fails and says why
  try {
    const channel = await connection.createConfirmChannel();
    channel.on("error", () => {});
    channel.on("return", ({ fields }) => console.error(`no queue for ${fields.routingKey}: is a worker set up?`));
    await channel.consume(
      REPLIES,
      (delivery) => {
        const id = delivery?.properties.correlationId;
        const command = waiting.get(id);
        if (command === undefined) return;
        waiting.delete(id);
        answered(command, JSON.parse(delivery.content));
      },
      { noAck: true },
    );
    for (const [id, command] of waiting) {
      const properties = {
        persistent: true, contentType: "application/json", messageId: id, correlationId: id, replyTo: REPLIES, mandatory: true,
      };
      // False: the buffer is full. Then wait until the broker has taken some.
      if (!channel.publish(`${PREFIX}.commands`, command.type, Buffer.from(JSON.stringify(command)), properties)) {
        await channel.waitForConfirms();
      }
    }
    // Rejects where the broker refuses one of them; resolves once it has all of them safely.
    await channel.waitForConfirms();
    for (const end = Date.now() + ANSWER_MS_MAX; waiting.size > 0 && Date.now() < end; ) await sleep(50);
  } finally {
    await connection.close().catch(() => {});
  }
}

async function main() {
  const [workflow, path] = process.argv.slice(2);
  const lines = readFileSync(path, "utf8").split("\n").filter((line) => line.trim() !== "");
  const waiting = commands(workflow, lines);
  let failed = 0;
  const answered = (command, reply) => {
    // A duplicate has the outcome of the first time: a result, or the reason of its rejection.
    if (reply.result === undefined && reply.result_bytes === undefined) {
      failed += 1;
      console.log(`${command.task_id}: ${reply.outcome}, ${reply.reason}: ${reply.detail ?? ""}`);
    }
    for (const path of reply.ignored ?? []) console.log(`${command.task_id}: \`${path}\` was ignored`);
  };
  // An answer is sent once and can be lost. Then the same command is sent again, and answered again.
  for (let round = 0; round < ROUNDS_MAX && waiting.size > 0; round += 1) {
    try {
      await send(waiting, answered);
    } catch (error) {
      console.error(error.message);
      await sleep(Math.min(2 ** round, 30) * 1_000);
    }
  }
  for (const { task_id } of waiting.values()) console.log(`${task_id}: no answer; the command may be on its way`);
  return failed === 0 && waiting.size === 0 ? 0 : 1;
}

process.exitCode = await main();
