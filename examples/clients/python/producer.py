#!/usr/bin/env python3
"""Starts a task for each line of a file, as often as it is run: the same line is the same task and the same command.

    pip install -r requirements.txt
    AMQP_URL=amqp://guest:guest@localhost:5672 ./producer.py sentiment-dual items.jsonl

A line is `{"key": "review-17", "input": {"text": "…"}}`. Prints one line for each outcome that is not as wanted.
Ends with 0 if every task is started, else with 1. Settings: AMQP_URL, GLYPH_PREFIX (glyph).
"""

import json
import os
import sys
import time
import uuid

import pika
from pika.exceptions import AMQPError, NackError, UnroutableError

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672")
PREFIX = os.environ.get("GLYPH_PREFIX", "glyph")
# The broker keeps answers to this queue with the connection, and nobody declares it.
REPLIES = "amq.rabbitmq.reply-to"
ANSWER_SECONDS_MAX = 30
ROUNDS_MAX = 10


def commands(workflow, lines):
    """The commands by their ids. Ids are made of the key, so that whoever sends a line again sends the same command."""
    made = {}
    for line in lines:
        item = json.loads(line)
        task_id = uuid.uuid5(uuid.NAMESPACE_URL, f"glyph:task:{item['key']}")  # as `glyph task id KEY`
        command_id = str(uuid.uuid5(task_id, "start"))
        made[command_id] = {
            "type": "start", "command_id": command_id, "task_id": str(task_id), "workflow": workflow, "input": item["input"],
        }
    return made


def send(waiting, answered):
    """Publishes every command that has no answer yet, and takes the answers, until all are there or the time is over."""
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()

        def take(_channel, _method, properties, body):
            command = waiting.pop(properties.correlation_id, None)
            if command is not None:
                answered(command, json.loads(body))

        channel.basic_consume(REPLIES, take, auto_ack=True)
        for command_id, command in list(waiting.items()):
            properties = pika.BasicProperties(
                delivery_mode=2, content_type="application/json", message_id=command_id, correlation_id=command_id, reply_to=REPLIES,
            )
            # Returns once the broker has it safely; raises where it refuses it or has no queue for it.
            channel.basic_publish(f"{PREFIX}.commands", command["type"], json.dumps(command), properties, mandatory=True)
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while waiting and time.monotonic() < deadline:
            connection.process_data_events(time_limit=0.5)


def main():
    workflow, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        waiting = commands(workflow, file)
    failed = []

    def answered(command, reply):
        # A duplicate has the outcome of the first time: a result, or the reason of its rejection.
        if "result" not in reply and "result_bytes" not in reply:
            failed.append(command)
            print(f"{command['task_id']}: {reply['outcome']}, {reply['reason']}: {reply.get('detail', '')}", flush=True)
        for path in reply.get("ignored", []):
            print(f"{command['task_id']}: `{path}` was ignored", flush=True)

    # An answer is sent once and can be lost. Then the same command is sent again, and answered again.
    for number in range(ROUNDS_MAX):
        try:
            send(waiting, answered)
        except (AMQPError, NackError, UnroutableError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            time.sleep(min(2**number, 30))
        if not waiting:
            break
    for command in waiting.values():
        print(f"{command['task_id']}: no answer; the command may be on its way", flush=True)
    return 1 if failed or waiting else 0


if __name__ == "__main__":
    sys.exit(main())
