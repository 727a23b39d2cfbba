"""The programs of examples/clients, as a reader would run them: producers send everything twice and change nothing by it; consumers are
killed with the worker, get the whole past once more, and have acted once on each message and in the order of each task."""

import json
import os
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import uuid

import pika.exceptions

from glyph_client import LOGS, REPOSITORY, Broker, Deployment, binary, fresh, submission, wait_until

CLIENTS = REPOSITORY / "examples" / "clients"
ITEMS = 100
KILLS = 6
WORKFLOW = """
workflow:
  id: reviews
  steps:
    - { id: annotate, type: annotation, answer: { field: label, kind: category, values: [good, bad] } }
"""


def main(checks):
    with Deployment("samples") as glyph, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        glyph.create_workflow(WORKFLOW)
        worker = glyph.start_worker()
        programs = sample_programs(checks, folder)
        consumers = [Consumer(glyph, name, program, folder) for name, program, _ in programs if program]
        try:
            for consumer in consumers:
                consumer.start()
                wait_until(f"{consumer.name}: its queue", lambda consumer=consumer: has_queue(glyph, consumer.queue), 60)
            for name, _, producer in programs:
                check_producer(checks, glyph, worker, name, producer, folder)
            work(glyph, worker, consumers)
            for consumer in consumers:
                check_consumer(checks, glyph, consumer)
        finally:
            for consumer in consumers:
                consumer.kill()
            with Broker(glyph) as broker:
                for consumer in consumers:
                    broker.channel.queue_delete(consumer.queue)


def sample_programs(checks, folder):
    """Language, consumer and producer, as command lines."""
    python, node = CLIENTS / "python", folder / "node"
    programs = [("python", [sys.executable, python / "consumer.py"], [sys.executable, python / "producer.py"])]
    built = pathlib.Path(binary()).parent
    if os.access(built / "consumer", os.X_OK):
        programs.append(("rust", [built / "consumer"], [built / "producer"]))
    else:
        checks.true("the Rust samples are built: cargo build -p glyph-example-clients", False)
    if shutil.which("npm"):
        shutil.copytree(CLIENTS / "node", node, ignore=shutil.ignore_patterns("node_modules"))
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=node, check=True, timeout=300)
        programs.append(("node", ["node", node / "consumer.js"], ["node", node / "producer.js"]))
    else:
        print("  (Node.js is not installed: its samples are left out)")
    if shutil.which("jq") and shutil.which("curl"):
        programs.append(("http", None, [CLIENTS / "http" / "producer.sh"]))
    else:
        print("  (curl or jq is not installed: the sample with curl is left out)")
    return programs


def has_queue(glyph, queue):
    """Whether somebody reads the queue."""
    with Broker(glyph) as broker:
        try:
            return broker.channel.queue_declare(queue, passive=True).method.consumer_count > 0
        except pika.exceptions.ChannelClosedByBroker:
            return False


def key_of(name, n):
    return f"{name}-{n}"


def task_of(key):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"glyph:task:{key}"))


def check_producer(checks, glyph, worker, name, producer, folder):
    lines = [{"key": key_of(name, n), "input": {"text": f"Röview \"{n}\""}} for n in range(ITEMS)]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def run(workflow, file):
        environment = glyph.environment(GLYPH_URL=f"http://127.0.0.1:{worker.port}")
        done = subprocess.run([*producer, workflow, file], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)
        return done.returncode, done.stdout + done.stderr

    def started():
        return glyph.rows("SELECT task_id::text, version FROM tasks ORDER BY 1")

    before = started()
    checks.equal(f"{name}: the producer ends well", run("reviews", path), (0, ""))
    after = started()
    expected = {task_of(line["key"]) for line in lines}
    checks.equal(f"{name}: each line is a task", {task for task, _ in after} - {task for task, _ in before}, expected)
    text = glyph.value("SELECT event_data->'input'->>'text' FROM workflow_events WHERE stream_id = %s AND version = 1", [task_of(key_of(name, 7))])
    checks.equal(f"{name}: with its input", text, lines[7]["input"]["text"])
    checks.equal(f"{name}: run again it ends well", run("reviews", path), (0, ""))
    checks.equal(f"{name}: and changes nothing", started(), after)

    wrong = folder / f"{name}-wrong.jsonl"
    wrong.write_text(json.dumps({"key": f"{name}-wrong", "input": {}}) + "\n")
    code, said = run("reviws", wrong)
    checks.true(f"{name}: it says what is wrong", code == 1 and "workflow_not_found" in said and "reviws" in said, f"{code} {said}")


def work(glyph, worker, consumers):
    """Labels all tasks while consumers, and once the worker, are killed; then sends the whole past again."""
    tasks = [task for (task,) in glyph.rows("SELECT task_id::text FROM tasks")]
    chance = random.Random(2008)
    chance.shuffle(tasks)
    rounds = [tasks[n::KILLS] for n in range(KILLS)]
    with Broker(glyph) as broker:
        for number, part in enumerate(rounds):
            seen = {consumer.name: consumer.count("seen") for consumer in consumers}
            for task in part:
                for kind in ("pause", "resume"):
                    broker.publish(kind, {"type": kind, "command_id": fresh(), "task_id": task})
            # They have a queue of their own, and a paused task takes no work.
            resumed = sum(map(len, rounds[: number + 1]))
            query = "SELECT count(*) FROM workflow_events WHERE event_type = 'workflow_resumed'"
            wait_until("all resumed", lambda resumed=resumed: glyph.value(query) == resumed, 60)
            for task in part:
                broker.publish("submission", submission(task, fresh(), {"label": chance.choice(["good", "bad"])}, step_id="annotate"))
            for consumer in consumers:
                wait_until(f"{consumer.name} goes on", lambda c=consumer: c.count("seen") > seen[c.name], 60)
                consumer.kill()
                consumer.start()
            if number == 2:
                worker.kill()
                worker.start()
                worker.wait_until_ready()
    wait_until("every task completed", lambda: glyph.value("SELECT count(*) FROM tasks WHERE status = 'completed'") == len(tasks), 120)
    for consumer in consumers:
        wait_until(f"{consumer.name} has it all", lambda c=consumer: c.count("tasks", "status = 'completed'") == len(tasks), 60)
        for kind in ("workflow_started", "workflow_completed"):
            glyph.glyph("events", "replay", "--type", kind, "--to", consumer.queue)
        wait_until(f"{consumer.name} has read the past", lambda c=consumer: is_empty(glyph, c.queue), 60)


def is_empty(glyph, queue):
    with Broker(glyph) as broker:
        return broker.depth(queue) == 0


def check_consumer(checks, glyph, consumer):
    checks.equal(f"{consumer.name}: asked to end, it ends well", consumer.terminate(), 0)
    told = glyph.rows(
        """SELECT stream_id::text, version FROM workflow_events WHERE event_type IN
           ('workflow_started', 'workflow_paused', 'workflow_resumed', 'workflow_completed') ORDER BY stream_id, version"""
    )
    acted = [(task, int(sequence)) for task, sequence in consumer.rows("SELECT task_id, sequence FROM acts ORDER BY task_id, rowid")]
    checks.equal(f"{consumer.name}: has acted once on each message, in the order of its task", acted, told)
    checks.equal(f"{consumer.name}: has noted every id", consumer.count("seen"), len(told))
    outputs = glyph.rows("SELECT stream_id::text, event_data->'output'->>'result' FROM workflow_events WHERE event_type = 'workflow_completed'")
    kept = {task: json.loads(result) for task, result in consumer.rows("SELECT task_id, result FROM tasks")}
    checks.equal(f"{consumer.name}: has the results of the log", kept, dict(outputs))


class Consumer:
    """A consumer's process, and its file, in which triggers write down every act."""

    def __init__(self, glyph, name, program, folder):
        self.name = name
        self.queue = f"{glyph.prefix}.of-{name}"
        self.file = folder / f"{name}.sqlite"
        self.log = LOGS / f"{glyph.name}-{name}.log"
        self.command = [*program, self.file]
        self.environment = glyph.environment(QUEUE=self.queue)
        self.process = None
        database = sqlite3.connect(self.file)
        database.executescript(
            """PRAGMA journal_mode = WAL;
               CREATE TABLE tasks (task_id TEXT PRIMARY KEY, sequence TEXT, workflow TEXT, status TEXT, result TEXT);
               CREATE TABLE seen (id TEXT PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP);
               CREATE TABLE acts (task_id TEXT, sequence TEXT);
               CREATE TRIGGER first AFTER INSERT ON tasks BEGIN INSERT INTO acts VALUES (NEW.task_id, NEW.sequence); END;
               CREATE TRIGGER later AFTER UPDATE ON tasks BEGIN INSERT INTO acts VALUES (NEW.task_id, NEW.sequence); END;"""
        )
        database.close()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def terminate(self):
        self.process.terminate()
        return self.process.wait(30)

    def rows(self, query):
        database = sqlite3.connect(self.file, timeout=30)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    def count(self, table, where="true"):
        return self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0]
