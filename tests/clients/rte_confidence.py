"""Submits labels one at a time, only while their task requests more: counts the labels and checks the accuracy.

Uses the data sets that GLYPH_DATA names, else a generated one of the shape of `rte`. The tasks come in the seeded
orders of `engine/examples/adaptive_overlap.rs`, the labels of a task in the order of the file, so that the figures of
an order can be compared with those of the model called directly.
"""

import collections
import http.client
import json
import math
import os
import pathlib
import random
import statistics
import time

import psycopg2

from glyph_client import Broker, Deployment, derived, wait_until

TARGET, MIN, MAX = 0.95, 2, 10
# Number of orders whose mean must reach the promised figures; a single order deviates from the mean.
ORDERS_ENOUGH = 20
ACCURACY_MIN, LABELS_MAX = 0.915, 4.0
ACCURACY_MIN_OF_ONE, LABELS_MAX_OF_ONE = 0.9, 4.5
# Tasks from the head of the first order that are submitted again through other channels.
TASKS_AGAIN = 150

WORKFLOW = f"""
workflow:
  id: %s
  name: People are asked until the answer is sure
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: confidence, target: {TARGET}, min: {MIN}, max: {MAX} }}
      consensus: {{ field: label }}
"""


# --- data sets --------------------------------------------------------------------------


class Labels:
    """A data set: for each task the labels in order, and the right answer if it is known."""

    def __init__(self, name, labels, gold):
        self.name = name
        self.by_task = collections.defaultdict(list)
        for row in labels:
            self.by_task[row["task"]].append((row["annotator"], row["label"]))
        self.gold = {row["task"]: row["label"] for row in gold}

    @classmethod
    def read(cls, file):
        """A file of labels, the gold beside it: `x.labels.jsonl` and `x.gold.jsonl`."""
        file = pathlib.Path(file)
        beside = file.with_name(file.name.replace("labels", "gold"))
        rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in (file, beside)]
        name = file.name.removesuffix(".jsonl").removesuffix("labels").removesuffix(".")
        return cls(name or file.parent.name, *rows)

    @classmethod
    def usual(cls):
        folder = os.environ.get("GLYPH_DATA")
        file = pathlib.Path(folder, "snow2008", "rte.labels.jsonl") if folder else None
        return cls.read(file) if file and file.exists() else cls.made()

    @classmethod
    def made(cls):
        print("  (no GLYPH_DATA: made labels)")
        draw = random.Random(2008)
        skill = {f"w{number}": draw.betavariate(8, 2) for number in range(164)}
        labels, gold = [], []
        for task in range(800):
            right = draw.choice("01")
            gold.append({"task": f"t{task}", "label": right})
            for annotator in draw.sample(sorted(skill), MAX):
                label = right if draw.random() < skill[annotator] else "10"[int(right)]
                labels.append({"task": f"t{task}", "annotator": annotator, "label": label})
        return cls("made", labels, gold)

    def order(self, seed):
        """The tasks in the order that the harness gives them for this seed."""
        tasks = list(self.by_task)
        shuffle(tasks, 77 + seed)
        return tasks


def shuffle(values, seed):
    """SplitMix64 and Fisher-Yates, as `reliability::simulation::Random` has them."""
    mask = (1 << 64) - 1
    for end in range(len(values) - 1, 0, -1):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        other = (z * (end + 1)) >> 64
        values[end], values[other] = values[other], values[end]


# --- channels -------------------------------------------------------------------------
#
# Each has `submit(command)` and `advance(command)`, which return when the command is decided: the output of the task if
# it is complete, None if it requests more labels.


class ByReply:
    """Commands over RabbitMQ, with results from the replies to `reply_to`."""

    def __init__(self, broker):
        self.broker = broker
        self.queue = broker.own_queue("answers")
        self.answers = broker.subscribe(self.queue)

    def ask(self, command):
        key = command["command_id"]
        self.broker.publish(command["type"], command, reply_to=self.queue, correlation_id=key)
        return self.answers.next(lambda message: message.properties.correlation_id == key).json

    def submit(self, command):
        answer = self.ask(command)
        if answer["outcome"] != "applied":
            raise RuntimeError(f"{command} came to {answer}")
        return answer["result"].get("output")

    advance = submit


class ByMessages:
    """Commands over RabbitMQ, judged by what is published for everybody: the first label starts its task, and each from
    `min` on (the second) leads to a comparison, which says whether somebody else is asked; a step that is done is told
    by its StepCompleted."""

    def __init__(self, broker):
        self.broker = broker
        self.completed = broker.subscribe(broker.named("step-completed"))
        self.started = broker.subscribe(broker.listen("started", "events", "workflow.started.#"))
        self.compared = broker.subscribe(broker.listen("compared", "events", "consensus.calculated.#"))
        self.ended = broker.subscribe(broker.listen("ended", "events", "workflow.completed.#"))
        self.given = collections.Counter()

    def submit(self, command):
        self.broker.publish(command["type"], command)
        self.given[command["task_id"]] += 1
        if self.given[command["task_id"]] < MIN:
            self.started.next(about(command))
            return None
        compared = self.compared.next(about(command))
        return None if compared.json["data"].get("more") else self.output(command)

    def advance(self, command):
        self.broker.publish(command["type"], command)
        return self.output(command)

    def output(self, command):
        self.completed.next(about(command))
        return self.ended.next(about(command)).json["data"]["output"]


def about(command):
    return lambda message: message.json["subject"] == command["task_id"]


class ByHttp:
    """Commands over HTTP, on one connection."""

    def __init__(self, worker):
        self.connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)

    def post(self, verb, command, *keys):
        body = json.dumps({key: command[key] for key in keys})
        headers = {"Idempotency-Key": command["command_id"], "Content-Type": "application/json"}
        self.connection.request("POST", f"/api/v1/tasks/{command['task_id']}/{verb}", body, headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise RuntimeError(f"{verb} {command} answered {answer.status}: {text}")
        return json.loads(text).get("output")

    def submit(self, command):
        return self.post("submit", command, "step_id", "annotation", "workflow")

    def advance(self, command):
        return self.post("advance", command, "step_id")


# --- one order --------------------------------------------------------------------------------


class Order:
    """The tasks of a set in one order, offered to a workflow of their own."""

    def __init__(self, labels, workflow, tasks):
        self.labels = labels
        self.workflow = workflow
        self.tasks = tasks
        self.ids = {task: derived("task", workflow, task) for task in tasks}
        # The result of each task: labels used and output.
        self.used = {}
        self.outputs = {}
        self.seconds = []

    def offer(self, way):
        for task in self.tasks:
            output, used = None, 0
            for used, label in enumerate(self.labels.by_task[task], 1):
                began = time.perf_counter()
                output = way.submit(self.submission(task, *label))
                self.seconds.append(time.perf_counter() - began)
                if output is not None:
                    break
            if output is None:
                output = way.advance(self.advance(task))
            self.used[task], self.outputs[task] = used, output
        return self

    def submission(self, task, annotator, label):
        annotation = {"user_id": derived("annotator", annotator), "data": {"label": label}}
        return {
            "type": "submission",
            "command_id": derived("command", self.workflow, task, annotator),
            "task_id": self.ids[task],
            "step_id": "annotate",
            "annotation": annotation,
            "workflow": self.workflow,
        }

    def advance(self, task):
        command_id = derived("advance", self.workflow, task)
        return {"type": "advance", "command_id": command_id, "task_id": self.ids[task], "step_id": "annotate"}

    def accuracy(self):
        right = sum(self.outputs[task]["result"] == self.labels.gold[task] for task in self.tasks)
        return right / len(self.tasks)

    def labels_a_task(self):
        return statistics.mean(self.used.values())

    def answers(self, tasks):
        """The results of tasks: labels used, the answer, its probability."""
        steps = [(self.used[task], self.outputs[task]["steps"]["annotate"]) for task in tasks]
        return [(used, step["value"], round(step["posterior"]["confidence"], 9)) for used, step in steps]

    def print(self):
        spent = sorted(self.seconds)
        half, late = (1000 * spent[int(len(spent) * part)] for part in (0.5, 0.99))
        print(
            f"  {self.workflow}: accuracy {self.accuracy():.4f}, {self.labels_a_task():.3f} labels a task; "
            f"a label takes {half:.1f} ms (p99 {late:.1f})",
            flush=True,
        )


# --- the checks -------------------------------------------------------------------------------


def main(checks, orders, files):
    sets = [Labels.read(file) for file in files] or [Labels.usual()]
    with Deployment("confidence") as glyph:
        worker = glyph.start_worker()
        for number, labels in enumerate(sets):
            first = check_set(checks, glyph, worker, labels, orders)
            if number == 0:
                check_other_ways(checks, glyph, worker, first)
        checks.all("versions from 1 without gaps, tasks at their last", glyph.version_faults())


def check_set(checks, glyph, worker, labels, orders):
    came = []
    with Broker(glyph) as broker:
        way = ByReply(broker)
        for seed in range(orders):
            workflow = slug(f"{labels.name}-{seed}")
            glyph.create_workflow(WORKFLOW % workflow)
            order = Order(labels, workflow, labels.order(seed)).offer(way)
            order.print()
            check_order(checks, glyph, order)
            if seed == 0:
                check_surplus(checks, way, order)
                check_explanation(checks, worker, order)
                check_messages(checks, glyph, broker, order)
            came.append(order)
    accuracies = [order.accuracy() for order in came]
    costs = [order.labels_a_task() for order in came]
    accuracy, cost = statistics.mean(accuracies), statistics.mean(costs)
    print(f"  {labels.name}, {orders} orders: {spread(accuracies, 4)} right, {spread(costs, 2)} labels a task")
    enough = orders >= ORDERS_ENOUGH
    if labels.name == "rte":
        least, most = (ACCURACY_MIN, LABELS_MAX) if enough else (ACCURACY_MIN_OF_ONE, LABELS_MAX_OF_ONE)
        checks.true(f"the answers are right as often as promised, {least}", accuracy >= least, accuracy)
        checks.true(f"a task takes no more than {most} labels", cost <= most, cost)
    return came[0]


def spread(values, digits):
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"


def slug(name):
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[:64]


def check_order(checks, glyph, order):
    """Checks the record of an order: it explains every decision, and each decision knew all labels before it."""
    name = order.workflow
    events = glyph.rows(
        """SELECT e.stream_id::text, e.event_type, e.event_data, (l.entry, e.position)::text
           FROM log_entries l JOIN workflow_events e ON e.batch = l.batch JOIN tasks t ON t.task_id = e.stream_id
           WHERE t.workflow = %s ORDER BY l.entry, e.position""",
        [name],
    )
    ends, given, places, faults = collections.Counter(), collections.Counter(), [], []
    for task, kind, data, place in events:
        if kind == "annotation_submitted":
            given[task] += 1
            places.append(tuple(map(int, place.strip("()").split(","))))
        elif kind == "step_completed":
            ends[(task, data["step_id"], data["visit"])] += 1
        elif kind == "consensus_calculated":
            faults += [(task, given[task], fault) for fault in decision_faults(data, given[task], places)]
    steps = {(id, "annotate", 1): 1 for id in order.ids.values()}
    checks.true(f"{name}: exactly one StepCompleted for each task", ends == steps, f"{sum(ends.values())} of {len(steps)}")
    checks.true(f"{name}: what was accepted is what was offered", given == {order.ids[t]: n for t, n in order.used.items()})
    checks.all(f"{name}: each decision follows from its evidence, and knew every label before it", faults)


def decision_faults(data, given, places):
    """What is wrong with the record of a decision after so many labels of its task; `places` are those of all labels
    so far in the log."""
    record, more = data["posterior"], data.get("more")
    evidence, soft = record["evidence"], record["soft_labels"]
    probabilities, unseen = posterior(evidence)
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    sure = soft["confidence"] >= TARGET
    closed_early = data.get("resolved_by") == "exhausted"
    # A submission is decided before it is in the log; an `advance` comes after the last label.
    known = len(places) if closed_early else len(places) - 1
    below = sum(place <= (record["position"]["entry"], record["position"]["position"]) for place in places)
    held = {
        "target and max": (record["target"], record["max"]) == (TARGET, MAX),
        "labels": len(evidence["labels"]) == given,
        "probabilities": near(probabilities + [unseen], soft["probabilities"] + [soft["unseen"]]),
        "confidence": near([probabilities[best]], [soft["confidence"]]),
        "asks on": (more == 1) == (not sure and given < MAX and not closed_early),
        "value": more is not None or near([probabilities[soft["classes"].index(data["value"])]], [probabilities[best]]),
        "resolved by": more is not None or closed_early or data["resolved_by"] == "posterior",
        "serial": known - (given - 1) <= evidence["position"] <= known,
        "place in the log": evidence["position"] == below,
    }
    return [name for name, true in held.items() if not true]


def posterior(evidence):
    """The probabilities that follow from the record: of the classes, and of one that nobody has given yet."""
    logs = [math.log(p) for p in evidence["prior"]]
    for label in evidence["labels"]:
        logs = [log + math.log(p) for log, p in zip(logs, label["likelihood"])]
    weights = [math.exp(log - max(logs)) for log in logs]
    probabilities = [weight / sum(weights) for weight in weights]
    return probabilities, probabilities.pop() if evidence["unseen"] else 0.0


def near(ones, others):
    return len(ones) == len(others) and all(abs(a - b) < 1e-9 for a, b in zip(ones, others))


def check_surplus(checks, way, order):
    """One more label, after a confident task and after a task at its maximum: neither is used."""
    answers = []
    for is_wanted in (lambda used: used < MAX, lambda used: used == MAX):
        closed = (t for t in order.tasks if is_wanted(order.used[t]) and order.outputs[t]["resolved_by"] == "posterior")
        for task in list(closed)[:3]:
            answer = way.ask(order.submission(task, "somebody else", order.outputs[task]["result"]))
            answers.append((answer["outcome"], answer.get("reason")))
    checks.equal(f"{order.workflow}: a label that comes late is surplus", set(answers), {("rejected", "surplus")})


def check_explanation(checks, worker, order):
    task = order.tasks[-1]
    status, text = worker.get(f"/api/v1/tasks/{order.ids[task]}/explain")
    (decision,) = json.loads(text)["decisions"] if status == 200 else [{}]
    record = decision.get("consensus", {}).get("posterior", {})
    told = (
        decision.get("result", {}).get("value"),
        len(record.get("evidence", {}).get("labels", [])),
        record.get("target"),
        record.get("soft_labels", {}).get("confidence"),
    )
    output = order.outputs[task]
    confidence = output["steps"]["annotate"]["posterior"]["confidence"]
    checks.equal("explain says what the decision rests on", told, (output["result"], order.used[task], TARGET, confidence))


def check_messages(checks, glyph, broker, order):
    """Every StepCompleted carries the answer, its probability, and the probabilities of the others."""
    wait_until("outbox empty", glyph.outbox_is_empty, 30)
    told, faults = collections.Counter(), []
    for message in broker.drain(broker.named("step-completed")):
        data = message.json["data"]
        result = data["result"]
        if data["workflow"] != order.workflow:
            continue
        told[data["task_id"]] += 1
        soft = result["posterior"]
        ended = {
            "posterior": soft["confidence"] >= TARGET or len(result["annotations"]) == MAX,
            "exhausted": len(result["annotations"]) < MAX,
        }
        if result["kind"] != "consensus" or not ended.get(result["resolved_by"]):
            faults.append((data["task_id"], result))
        if soft["probabilities"][soft["classes"].index(result["value"])] != soft["confidence"]:
            faults.append((data["task_id"], soft))
    checks.true("each task's StepCompleted is published once", told == {id: 1 for id in order.ids.values()})
    checks.all("StepCompleted carries the posterior, at the target or at the most labels", faults)


def check_other_ways(checks, glyph, worker, first):
    """The head of an order again: by messages alone, over HTTP, and while a transaction stays open on the server. None
    of it makes a difference."""
    tasks = first.tasks[:TASKS_AGAIN]

    def again(name, way):
        glyph.create_workflow(WORKFLOW % name)
        order = Order(first.labels, name, tasks).offer(way)
        order.print()
        check_order(checks, glyph, order)
        checks.equal(f"{name}: each task comes to the same", order.answers(tasks), first.answers(tasks))

    with Broker(glyph) as broker:
        broker.drain(broker.named("step-completed"))
        again("by-messages", ByMessages(broker))
    again("over-http", ByHttp(worker))
    with OpenTransaction(glyph), Broker(glyph) as broker:
        again("behind-a-transaction", ByReply(broker))


class OpenTransaction:
    """A transaction in another database of the same server, which has written and stays open."""

    def __init__(self, glyph):
        self.connection = psycopg2.connect(glyph.admin_url)

    def __enter__(self):
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")

    def __exit__(self, *_):
        self.connection.rollback()
        self.connection.close()
