"""Shared by the checks: a separate deployment, worker processes, the broker, and conditions with deadlines.

The checks know the program only from outside: its binary, its queues, its tables and its HTTP routes.
"""

import collections
import http.server
import json
import os
import pathlib
import random
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pika
import psycopg2
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
LOGS = REPOSITORY / "target" / "clients" / "logs"
POLL_SECONDS = 0.05
START_SECONDS_MAX = 60


def binary():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    path = os.environ.get("GLYPH_BIN", target / "debug" / "glyph")
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} is not there: cargo build -p glyph-worker")
    return str(path)


def derived(*names):
    """An id that is the same in every run, so that publishing again repeats the very same commands."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(names)))


def fresh():
    return str(uuid.uuid4())


def wait_until(what, condition, seconds):
    """Polls until `condition` returns a true value, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s, last seen: {value!r}")
        time.sleep(POLL_SECONDS)


def free_port():
    """Below the system's range for clients, so that the port of a process that is down stays free for its restart."""
    while True:
        port = random.randint(20_000, 31_999)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


class Checks:
    """Counts passed and failed checks; prints one line each, from any thread."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.lock = threading.Lock()

    def true(self, what, held, detail=""):
        with self.lock:
            if held:
                self.passed += 1
                print(f"  ok      {what}", flush=True)
            else:
                self.failed += 1
                print(f"  FAILED  {what}" + (f": {detail}" if detail else ""), flush=True)
        return bool(held)

    def equal(self, what, actual, expected):
        return self.true(what, actual == expected, f"{short(actual)} instead of {short(expected)}")

    def all(self, what, faults):
        """Passes if `faults` is empty; shows the first few."""
        return self.true(what, not faults, f"{len(faults)} faults, as {short(faults[:3])}")


def short(value, length=400):
    text = repr(value)
    return text if len(text) <= length else text[:length] + "…"


class Here:
    """This machine, as the host of workers and servers."""

    name = "localhost"
    address = "127.0.0.1"

    @staticmethod
    def within(command, _user=None):
        """The command that runs `command` there. Here it runs as `user` already."""
        return command


class Deployment:
    """A separate database and a separate prefix on the broker, removed at the end."""

    def __init__(self, name, database_url=None, amqp_url=None, program=None):
        self.program = program or binary()
        self.admin_url = database_url or os.environ["DATABASE_URL"]
        self.amqp_url = amqp_url or os.environ["AMQP_URL"]
        self.name = f"{name}_{secrets.token_hex(4)}"
        self.prefix = self.name.replace("_", "-")
        self.database_url = with_database(self.admin_url, self.name)
        self.workers = []
        LOGS.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        self.admin(f'CREATE DATABASE "{self.name}"')
        self.glyph("migrate")
        return self

    def __exit__(self, kind, error, trace):
        for worker in self.workers:
            if error is not None:
                worker.show_log()
            worker.kill()
        if error is None:
            self.admin(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
            self.drop_topology()

    def drop_topology(self):
        with Broker(self) as broker:
            ladder = [f"retry.{seconds}s" for seconds in (1, 4, 16, 60)]
            events = ("step-completed", "transition-occurred")
            for queue in ("submission", "advance", "control", "dead", "deployment", "recorder", "ledger", *events, *ladder):
                broker.channel.queue_delete(broker.named(queue))
            for exchange in ("commands", "events", "dead", *ladder):
                broker.channel.exchange_delete(broker.named(exchange))

    # --- the database, each time on a new connection, so that an outage ends with the statement ---

    def admin(self, statement):
        execute(self.admin_url, statement)

    def rows(self, query, arguments=()):
        return execute(self.database_url, query, arguments)

    def value(self, query, arguments=()):
        return self.rows(query, arguments)[0][0]

    def version_faults(self):
        """Streams whose versions have gaps, or whose task row names another last version."""
        return self.rows(
            """SELECT e.stream_id::text, e.events, e.first, e.last, t.version
               FROM (SELECT stream_id, count(*) AS events, min(version) AS first, max(version) AS last
                     FROM workflow_events GROUP BY stream_id) e
               FULL JOIN tasks t ON t.task_id = e.stream_id
               WHERE e.first IS DISTINCT FROM 1 OR e.events IS DISTINCT FROM e.last OR t.version IS DISTINCT FROM e.last"""
        )

    def decided_per_second(self, seconds):
        """Over the next so many seconds."""
        count = "SELECT count(*) FROM commands"
        before = self.value(count)
        time.sleep(seconds)
        return (self.value(count) - before) / seconds

    def outbox_is_empty(self):
        return self.value("SELECT count(*) FROM outbox") == 0

    # --- the binary ---

    def environment(self, **settings):
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GLYPH_", "OTEL_"))}
        own = {"DATABASE_URL": self.database_url, "AMQP_URL": self.amqp_url, "GLYPH_PREFIX": self.prefix}
        return inherited | own | settings

    def glyph(self, *arguments, program=None):
        """Runs a verb to its end and returns what it printed."""
        done = subprocess.run(
            [program or self.program, *arguments], env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            raise RuntimeError(f"glyph {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def create_workflow(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            return self.glyph("workflow", "create", file.name)

    def start_worker(self, *flags, health_port=None, host=Here, **settings):
        """A worker that is ready. With `--no-http` its health is asked at `health_port`. It runs on `host`, if that is another one."""
        worker = Worker(self, f"{self.name}-{len(self.workers) + 1}", settings, flags, health_port, host)
        self.workers.append(worker)
        worker.start()
        worker.wait_until_ready()
        return worker


def with_database(url, name):
    return urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(path=f"/{name}"))


def execute(url, statement, arguments=()):
    connection = psycopg2.connect(url, connect_timeout=10)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


class Worker:
    """One `glyph worker` process with its HTTP port; started again, it keeps both name and port."""

    def __init__(self, deployment, name, settings, flags=(), health_port=None, host=Here):
        self.host = host
        self.port = free_port()
        self.health_port = health_port or self.port
        self.flags = flags
        self.log = LOGS / f"{name}.log"
        self.environment = deployment.environment(GLYPH_HTTP_ADDR=f"127.0.0.1:{self.port}", **settings)
        self.process = None
        self.program = deployment.program

    def start(self):
        command = self.host.within([self.program, "worker", *self.flags])
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def lives(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.lives():
            self.process.kill()
            self.process.wait()

    def terminate(self, seconds=60):
        """Asks the worker to stop and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def get(self, path, port=None, headers=None):
        """Status and text of an HTTP answer; status 0 where nobody answers."""
        request = urllib.request.Request(f"http://{self.host.address}:{port or self.port}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except OSError:
            return 0, ""

    def set_log(self, directives):
        """How much it logs, until its next start."""
        request = urllib.request.Request(f"http://{self.host.address}:{self.port}/api/v1/log", json.dumps({"filter": directives}).encode(), method="PUT")
        request.add_header("Content-Type", "application/json")
        urllib.request.urlopen(request, timeout=5).close()

    def is_ready(self):
        return self.get("/readyz", self.health_port)[0] == 200

    def wait_until_ready(self, seconds=START_SECONDS_MAX):
        def ready():
            if not self.lives():
                raise RuntimeError(f"the worker ended with {self.process.returncode}")
            return self.is_ready()

        wait_until("worker ready", ready, seconds)

    def samples(self):
        """The scraped samples as a list of (name, labels, value)."""
        status, text = self.get("/metrics")
        if status != 200:
            raise RuntimeError(f"/metrics answered {status}")
        return [(s.name, s.labels, s.value) for family in text_string_to_metric_families(text) for s in family.samples]

    def total(self, name, **labels):
        return sum(value for n, l, value in self.samples() if n == name and labels.items() <= l.items())

    def show_log(self, lines=25):
        if self.log.exists():
            print(f"--- the end of {self.log}")
            print("\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]))


class Background:
    """Runs `run` of a subclass beside the check, until its block ends."""

    def __init__(self):
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers calls with JSON, and says nothing of it."""

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class HttpServer:
    """Serves calls of the worker in a thread; `handler` is made of `Answering`."""

    def __init__(self, handler, address=("127.0.0.1", 0)):
        self.server = http.server.ThreadingHTTPServer(address, handler)
        self.port = self.server.server_port

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Message:
    """A delivery: routing key, properties, body, and the body's JSON where it is some."""

    def __init__(self, method, properties, body):
        self.key = method.routing_key
        self.properties = properties
        self.headers = properties.headers or {}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class Broker:
    """A connection whose publishes are confirmed, on the names of one deployment."""

    def __init__(self, deployment, heartbeat=0, url=None):
        self.prefix = deployment.prefix
        parameters = pika.URLParameters(url or deployment.amqp_url)
        parameters.heartbeat = heartbeat  # by default none: nobody serves the connection while a check waits for something else
        parameters.blocked_connection_timeout = 30
        parameters.socket_timeout = 10
        self.connection = connect(parameters)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.connection.is_open:
            self.connection.close()

    def named(self, name):
        return f"{self.prefix}.{name}"

    def publish(self, key, body, **properties):
        """Publishes to the commands exchange and waits for the confirm; an unroutable message is an error."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        properties = pika.BasicProperties(delivery_mode=2, **properties)
        self.channel.basic_publish(self.named("commands"), key, body, properties, mandatory=True)

    def own_queue(self, name):
        """A queue that is deleted with the connection."""
        return self.channel.queue_declare(self.named(name), exclusive=True).method.queue

    def listen(self, name, exchange, key):
        """A queue of the check's own on an exchange of the deployment."""
        queue = self.own_queue(name)
        self.channel.queue_bind(queue, self.named(exchange), key)
        return queue

    def depth(self, queue):
        return self.channel.queue_declare(queue, passive=True).method.message_count

    def drain(self, queue):
        """Takes everything that waits in a queue, in its order."""
        taken = []
        while True:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if method is None:
                return taken
            taken.append(Message(method, properties, body))

    def subscribe(self, queue):
        return Inbox(self, queue)


def connect(parameters):
    """A connection to a broker. One that takes the connection and says nothing is away too, for which pika has an error of no family."""
    try:
        return pika.BlockingConnection(parameters)
    except AMQPConnectorException as error:
        raise pika.exceptions.AMQPConnectionError(error) from error


class Inbox:
    """What arrives in a queue, acknowledged as it comes."""

    def __init__(self, broker, queue):
        self.connection = broker.connection
        self.arrived = collections.deque()

        def keep(_channel, method, properties, body):
            self.arrived.append(Message(method, properties, body))

        broker.channel.basic_consume(queue, keep, auto_ack=True)

    def next(self, wanted=lambda message: True, seconds=30):
        """The next matching message; those before it are skipped."""
        deadline = time.monotonic() + seconds
        while True:
            while self.arrived:
                message = self.arrived.popleft()
                if wanted(message):
                    return message
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing that is wanted has arrived within {seconds} s")
            self.connection.process_data_events(time_limit=1)


def send_paced(worker, per_second, seconds, send_some):
    """Calls `send_some`, which returns how many commands it has sent, at this pace or as fast as it can, and waits until all are decided.

    Returns how many.
    """
    decided = worker.total("glyph_commands_total")
    began = time.monotonic()
    sent = 0
    while (past := time.monotonic() - began) < seconds:
        if sent < past * per_second:
            sent += send_some()
        else:
            time.sleep(0.01)
    wait_until("all is decided", lambda: worker.total("glyph_commands_total") - decided >= sent, 120)
    return sent


def submission(task_id, user_id, data, command_id=None, **more):
    """A command; `more` goes to its top level."""
    annotation = {"user_id": user_id, "data": data}
    return {"type": "submission", "command_id": command_id or fresh(), "task_id": task_id, "annotation": annotation, **more}
