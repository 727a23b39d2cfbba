"""Work for a deployment that is being broken, and a record of all that its clients saw.

Four workflows meet what can go wrong: three people who may differ, an adjudicator and a webhook (`labels`); a timer (`timed`); a job for
another program (`jobs`); a task within a task (`parents`, `children`). `Commands` makes the commands of the first steps, `Producer` sends
them out of order and more than once, `Recorder` keeps every message and answers as people and programs would, `Handlers` is the webhook's
server.
"""

import collections
import contextlib
import hashlib
import json
import pathlib
import random
import socket
import threading
import time

import pika

from glyph_client import Answering, Background, Broker, HttpServer, derived, submission

WINDOW = 50  # commands that wait to be sent, in no order
DUPLICATES = 0.2
UNKNOWN = 0.02  # of tasks, which have two commands: nobody starts them
POISON = 0.002
BIG_BYTES = 200_000
LINK_SECONDS_MAX = 5  # without a heartbeat
REACHED = 100  # completed tasks that reach the goal

WORKFLOWS = """
workflow:
  id: labels
  settings: {{ max_retries: 2 }}
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: 3 }}
      consensus: {{ metric: percent_agreement, field: label, threshold: 1.0 }}
    - {{ id: adjudicate, type: adjudication }}
    - {{ id: judge, type: auto_process, handler: webhook, config: {{ url: "{url}/judge", timeout: 2s }} }}
  transitions:
    - {{ from: annotate, to: judge, condition: {{ type: on_agreement }} }}
    - {{ from: annotate, to: adjudicate, condition: {{ type: on_disagreement }} }}
    - {{ from: adjudicate, to: judge }}
    - {{ from: judge, to: _complete }}
goals:
  - id: reached
    type: volume
    target: {reached}
    unit: tasks
    on_complete: [notify, {{ trigger_webhook: {{ url: "{url}/goal" }} }}]
---
workflow:
  id: timed
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: 2, min_required: 1, timeout: 3s, timeout_action: proceed }}
---
workflow:
  id: jobs
  steps:
    - {{ id: annotate, type: annotation }}
    - {{ id: transcribe, type: auto_process, handler: queue }}
  transitions:
    - {{ from: annotate, to: transcribe }}
    - {{ from: transcribe, to: _complete }}
---
workflow: {{ id: children, steps: [ {{ id: mark, type: annotation }} ] }}
---
workflow:
  id: parents
  steps:
    - {{ id: triage, type: annotation }}
    - {{ id: extract, type: sub_workflow, workflow: children }}
  transitions:
    - {{ from: triage, to: extract }}
    - {{ from: extract, to: _complete }}
"""

ORDINARY = "ordinary"  # is applied
OPTIONAL = "optional"  # is applied or rejected: somebody else may have been first
LOST = "lost"  # is dead in the end: its task never comes
BAD = "bad"  # is dead at once

Command = collections.namedtuple("Command", "fate id key body")


def create_workflows(glyph, url):
    for workflow in WORKFLOWS.format(url=url, reached=REACHED).split("---\n"):
        glyph.create_workflow(workflow)


def command(fate, body):
    return Command(fate, body["command_id"], body["type"], json.dumps(body).encode())


class Journal:
    """What clients saw, in order. With a path it is a file, which several processes share."""

    def __init__(self, path=None):
        self.path = path and pathlib.Path(path)
        self.lock = threading.Lock()
        self.entries = []

    def add(self, kind, *entry):
        with self.lock:
            if self.path:
                with self.path.open("a") as file:
                    file.write(json.dumps([kind, *entry]) + "\n")
            else:
                self.entries.append((kind, *entry))

    def of(self, kind):
        with self.lock:
            entries = list(self.entries)
        if self.path and self.path.exists():
            entries = map(json.loads, self.path.read_text().splitlines())
        return [tuple(entry[1:]) for entry in entries if entry[0] == kind]

    def sent(self, *fates):
        """The ids of confirmed commands with one of these fates."""
        return {id for fate, id, _ in self.of("sent") if fate in fates}


class Commands:
    """Commands of ever new tasks, the same for one seed. `dead` names the kinds that end dead and may come; each of them comes soon."""

    def __init__(self, seed, dead):
        self.seed = seed
        self.draw = random.Random(f"commands {seed}")
        self.dead = dead
        self.due = list(dead)
        self.count = 0
        self.ready = collections.deque()  # the rest of a task that has begun

    def next(self):
        while not self.ready:
            self.ready.extend(self.of_next_task())
        return self.ready.popleft()

    def of_next_task(self):
        self.count += 1
        task = derived(str(self.seed), "task", str(self.count))
        if kind := self.dead and self.drawn_dead():
            return [self.ending_dead(task, kind)]
        (workflow,) = self.draw.choices(["labels", "timed", "jobs", "parents"], [5, 2, 1, 2])
        if workflow != "labels":
            return [self.submission(task, "ann", "a", workflow)]
        labels = self.draw.choice(["aaa", "aaa", "aab", "abc"])
        return [self.submission(task, person, label, workflow) for person, label in zip(("ann", "bob", "cem"), labels)]

    def drawn_dead(self):
        if self.due and self.count % 15 == 0:
            return self.due.pop()
        drawn = self.draw.random()
        if drawn < UNKNOWN and UNKNOWN_TASK in self.dead:
            return UNKNOWN_TASK
        return self.draw.choice(list(BAD_BODIES)) if drawn > 1 - POISON else None

    def submission(self, task, person, label, workflow):
        data = {"label": label}
        if self.count % 150 == 0:
            data["text"] = "x" * BIG_BYTES
        return command(ORDINARY, submission(task, derived("person", person), data, derived(task, person), workflow=workflow))

    def ending_dead(self, task, kind):
        body = submission(task, derived("person", "ann"), {"label": "a"}, derived(task, "dead"))
        if kind == UNKNOWN_TASK:
            return command(LOST, body)
        return Command(BAD, body["command_id"], body["type"], BAD_BODIES[kind](body))


UNKNOWN_TASK = "unknown task"
BAD_BODIES = {
    "no JSON": lambda body: b"{" + body["task_id"].encode(),
    "no person": lambda body: json.dumps(body | {"annotation": {"data": 1}}).encode(),
    "NUL in a text": lambda body: json.dumps(body | {"annotation": body["annotation"] | {"data": {"label": "\0"}}}).encode(),
}
DEAD = (UNKNOWN_TASK, *BAD_BODIES)


class Producer(Background):
    """Sends commands, and what others ask it to, until its block ends. A command counts once the broker has confirmed it."""

    def __init__(self, glyph, journal, commands, per_second):
        super().__init__()
        self.glyph = glyph
        self.journal = journal
        self.commands = commands
        self.per_second = per_second
        self.asked = collections.deque()
        self.grows = True  # whether new tasks begin
        self.window = []
        self.repeated = 0
        self.failure = None

    def ask(self, command):
        self.asked.append(command)

    def is_idle(self):
        """Whether everything was confirmed that was asked for, and nothing new begins."""
        return not (self.grows or self.commands.ready or self.asked or self.window)

    def finish(self):
        """Begins no new task."""
        self.grows = False

    def run(self):
        draw = random.Random(f"producer {self.commands.seed}")
        broker = None
        try:
            while not self.stopped.wait(1 / self.per_second):
                self.fill()
                if not self.window:
                    continue
                chosen = draw.randrange(len(self.window))
                if broker := self.publish(broker, self.window[chosen]):
                    if draw.random() < DUPLICATES:
                        self.repeated += 1  # it stays in the window, to be sent once more
                    else:
                        self.window.pop(chosen)
        except Exception as error:  # told by the check
            self.failure = error
            raise
        finally:
            if broker:
                with contextlib.suppress(pika.exceptions.AMQPError):
                    broker.close()

    def fill(self):
        while self.asked and len(self.window) < WINDOW:
            self.window.append(self.asked.popleft())
        while (self.grows or self.commands.ready) and len(self.window) < WINDOW:
            self.window.append(self.commands.next())

    def publish(self, broker, command):
        """Returns the connection, or none if it failed: then the fate of the command is unknown, and it is sent again."""
        try:
            broker = broker or Broker(self.glyph, LINK_SECONDS_MAX)
            broker.publish(command.key, command.body, message_id=command.id)
        except (pika.exceptions.AMQPError, OSError):
            return None
        self.journal.add("sent", command.fate, command.id, time.time())
        return broker


class Recorder(Background):
    """Keeps every message in the order of arrival, answers it, then acknowledges it. It goes on through any loss of its connection."""

    QUEUE = "recorder"
    LEDGER = "ledger"

    def __init__(self, glyph, journal, ask, url=None):
        super().__init__()
        self.glyph = glyph
        self.journal = journal
        self.ask = ask
        self.url = url
        self.instead = None  # called once, instead of the next acknowledgement
        self.unacknowledged = 0
        self.last_tag = 0
        self.redelivered = 0
        self.failure = None

    @classmethod
    def declare(cls, broker):
        """Before the first command, so that nothing is missed. One reader at a time keeps the order, whatever happens to its link."""
        queue = broker.named(cls.QUEUE)
        broker.channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True})
        broker.channel.queue_bind(queue, broker.named("events"), "#")

    @classmethod
    def declare_ledger(cls, broker):
        """A second queue, which nobody reads before the end: what stands in it was never delivered, so its order is that of the senders."""
        queue = broker.named(cls.LEDGER)
        broker.channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        broker.channel.queue_bind(queue, broker.named("events"), "#")

    @classmethod
    def read_ledger(cls, broker):
        """Takes all of it: id, subject, sequence and type of each message."""
        queue, taken = broker.named(cls.LEDGER), []
        broker.channel.basic_qos(prefetch_count=1000)
        while broker.depth(queue):
            for method, _, body in broker.channel.consume(queue, inactivity_timeout=1):
                if method is None:
                    break
                message = json.loads(body)
                taken.append((message["id"], message["subject"], message.get("sequence"), message["type"]))
                if len(taken) % 500 == 0:
                    broker.channel.basic_ack(method.delivery_tag, multiple=True)
            broker.channel.cancel()
        return taken

    def run(self):
        while not self.stopped.is_set():
            try:
                self.read()
            except (pika.exceptions.AMQPError, OSError):
                self.stopped.wait(0.2)
            except Exception as error:  # told by the check
                self.failure = error
                raise

    def read(self):
        self.unacknowledged = 0
        with Broker(self.glyph, LINK_SECONDS_MAX, self.url) as broker:
            broker.channel.basic_qos(prefetch_count=WINDOW)
            broker.channel.basic_consume(broker.named(self.QUEUE), self.keep)
            while not self.stopped.is_set():
                broker.connection.process_data_events(time_limit=0.2)
                if self.unacknowledged:
                    instead, self.instead = self.instead, None
                    if instead:
                        instead()
                    else:
                        broker.channel.basic_ack(self.last_tag, multiple=True)
                        self.unacknowledged = 0

    def keep(self, _channel, method, _properties, body):
        message = json.loads(body)
        self.unacknowledged += 1
        self.last_tag = method.delivery_tag
        self.redelivered += method.redelivered
        self.journal.add("received", message["id"], message["subject"], message.get("sequence"), message["type"])
        for answer in answers(message):
            self.ask(answer)


def answers(message):
    """What people and programs do when they see a message, under ids that are the same each time."""
    data, kind = message["data"], message["type"].removeprefix("dev.glyph.").removesuffix(".v1")
    task, step = data.get("task_id"), data.get("step_id")
    if kind == "step.activated" and step in ("adjudicate", "mark"):
        id = derived(task, step, str(data["visit"]))
        yield command(ORDINARY, submission(task, derived("person", "eva"), {"label": "a"}, id, step_id=step))
    if kind == "job.requested":
        advance = {"type": "advance", "task_id": task, "step_id": step, "output": {"of": task}}
        # The program answers twice: as it should, and under an id of its own.
        yield command(OPTIONAL, advance | {"command_id": data["idempotency_key"]})
        yield command(OPTIONAL, advance | {"command_id": derived(data["idempotency_key"], "again")})
    if kind == "incident.opened":
        retry = {"type": "retry", "command_id": derived(data["incident_id"], "retry"), "task_id": task, "step_id": step}
        yield command(OPTIONAL, retry)


class Handlers(HttpServer):
    """Does its work once for each idempotency key, and answers badly while `is_hostile`: late, not at all, twice, with an error."""

    WAYS = {"refuse": 6, "late": 3, "cut": 3, "twice": 8}  # in a hundred calls

    def __init__(self, journal, seed, **address):
        self.is_hostile = True
        self.ways = collections.Counter()
        self.journal = journal
        self.seed = seed
        outer = self

        class Handler(Answering):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                with contextlib.suppress(OSError):  # the caller has given up
                    outer.handle(self, self.headers["idempotency-key"], json.loads(self.body()))

        super().__init__(Handler, **address)
        self.server.handle_error = lambda *_: None  # callers vanish at any time

    def handle(self, call, key, body):
        way = self.way(key, body)
        self.ways[way] += 1
        if way == "refuse":
            return call.answer(503)
        self.journal.add("call", key, call.path, *(body.get(name) for name in ("task_id", "step_id", "visit", "call")))
        if way == "late":
            time.sleep(3)
        if way == "cut":
            call.close_connection = True
            return call.connection.shutdown(socket.SHUT_RDWR)
        call.answer(200, json.dumps({"of": body.get("task_id")}).encode())
        if way == "twice":
            call.answer(200, b'{"of": "somebody else"}')

    def way(self, key, body):
        if not self.is_hostile:
            return "well"
        drawn = hashlib.sha256(f"{self.seed} {key} {body.get('attempt')}".encode()).digest()[0] * 100 // 256
        for way, share in self.WAYS.items():
            if drawn < share:
                return way
            drawn -= share
        return "well"
