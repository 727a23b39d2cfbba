#!/usr/bin/env python3
"""Keeps how tasks stand, and their results, in a SQLite file: acts on each message once and in order.

    pip install -r requirements.txt
    AMQP_URL=amqp://guest:guest@localhost:5672 ./consumer.py tasks.sqlite

Change `act` to what your system does with a message. Settings: AMQP_URL, GLYPH_PREFIX (glyph), QUEUE, BINDING.
"""

import json
import os
import signal
import sqlite3
import sys
import threading
import time

import pika

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672")
PREFIX = os.environ.get("GLYPH_PREFIX", "glyph")
QUEUE = os.environ.get("QUEUE", f"{PREFIX}.task-states")
BINDING = os.environ.get("BINDING", "workflow.#")
# How many messages may be on their way to this program. They are acted on one after the other.
PREFETCH = 50
WAIT_SECONDS_MAX = 30


def open_database(path):
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    # The ids of messages that have been acted on. Ids older than any that can still come may be deleted.
    database.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP)")
    database.execute("CREATE TABLE IF NOT EXISTS tasks (task_id TEXT PRIMARY KEY, sequence TEXT, workflow TEXT, status TEXT, result TEXT)")
    return database


def act(database, message):
    """Runs in the transaction that notes the id: either both are kept, or neither.

    What leaves the database (a mail, a call) cannot be part of it. Give such a call the message's id as its
    idempotency key, or write down here what is to be done and do it from there.
    """
    if "sequence" not in message:
        return  # about a whole workflow
    data, status = message["data"], message["type"].split(".")[3]  # completed, of dev.glyph.workflow.completed.v1
    result = json.dumps(data["output"]["result"]) if status == "completed" else None
    # What comes again from the feed, or after a nack, must not replace what is newer.
    database.execute(
        """INSERT INTO tasks VALUES (?, ?, ?, ?, ?) ON CONFLICT (task_id) DO UPDATE
           SET sequence = excluded.sequence, workflow = excluded.workflow, status = excluded.status, result = excluded.result
           WHERE excluded.sequence > tasks.sequence""",
        (message["subject"], message["sequence"], data["workflow"], status, result),
    )


def handle(database, message):
    """Acts on a message unless it has been acted on before."""
    database.execute("BEGIN IMMEDIATE")
    try:
        noted = database.execute("INSERT OR IGNORE INTO seen (id) VALUES (?)", (message["id"],))
        if noted.rowcount == 1:
            act(database, message)
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


def consume(database, stopping):
    """Until the connection fails or the program is asked to stop."""
    parameters = pika.URLParameters(URL)
    parameters.client_properties = {"connection_name": f"consumer of {QUEUE}"}
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        # A queue of one's own. One reader at a time keeps the order; others wait in case it dies.
        arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-delivery-limit": 2**31 - 1}
        channel.queue_declare(QUEUE, durable=True, arguments=arguments)
        channel.queue_bind(QUEUE, f"{PREFIX}.events", BINDING)
        channel.basic_qos(prefetch_count=PREFETCH)
        print(f"reading {QUEUE}", flush=True)
        for method, _, body in channel.consume(QUEUE, inactivity_timeout=0.5):
            if stopping.is_set():
                return
            if method is not None:
                # A failure ends the connection without an ack: this message and all after it come again, in order.
                handle(database, json.loads(body))
                channel.basic_ack(method.delivery_tag)
    finally:
        if connection.is_open:
            connection.close()


def main():
    database = open_database(sys.argv[1] if len(sys.argv) > 1 else "tasks.sqlite")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    wait = 1
    while not stopping.is_set():
        began = time.monotonic()
        try:
            consume(database, stopping)
        except Exception as error:
            if time.monotonic() - began > WAIT_SECONDS_MAX:
                wait = 1
            print(f"{type(error).__name__}: {error}; again in {wait} s", file=sys.stderr, flush=True)
            stopping.wait(wait)
            wait = min(2 * wait, WAIT_SECONDS_MAX)


if __name__ == "__main__":
    main()
