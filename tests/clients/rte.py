"""Ten labels for each of 800 sentence pairs through RabbitMQ and two workers, against a recount of the file.

Uses the data set of Snow et al. (2008) if GLYPH_DATA names it, else a generated one of the same shape.
"""

import collections
import json
import os
import pathlib
import random
import tempfile
import threading

from glyph_client import Broker, Deployment, derived, wait_until

ANNOTATORS = 10
KILLS = 5
DRAIN_SECONDS_MAX = 300

WORKFLOW = """
workflow:
  id: rte
  name: Textual entailment, ten annotators, ties adjudicated
  entry_step: annotate
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 10, unique_annotators: true }
      consensus:
        metric: percent_agreement
        field: label
        threshold: 1.0
        on_agreement: { method: majority_vote }
        on_disagreement: { strategy: majority_vote }
        tie_breaker: adjudication
    - id: adjudicate
      type: adjudication
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
"""


def read_labels():
    folder = os.environ.get("GLYPH_DATA")
    file = pathlib.Path(folder, "snow2008", "rte.labels.jsonl") if folder else None
    if file and file.exists():
        return [json.loads(line) for line in file.read_text().splitlines()]
    print("  (no GLYPH_DATA: made labels)")
    draw = random.Random(2008)
    return [
        {"task": f"t{task}", "annotator": f"w{annotator}", "label": draw.choice("0001")}
        for task in range(800)
        for annotator in draw.sample(range(164), ANNOTATORS)
    ]


class Expected:
    """What the file says about one task."""

    def __init__(self, labels):
        self.votes = collections.Counter(labels)
        (self.majority, most), *rest = self.votes.most_common()
        self.tied = bool(rest) and rest[0][1] == most
        pairs = ANNOTATORS * (ANNOTATORS - 1)
        self.agreement = sum(n * (n - 1) for n in self.votes.values()) / pairs


def command(row):
    names = (row["task"], row["annotator"])
    return {
        "type": "submission",
        "command_id": derived("command", *names),
        "task_id": derived("task", row["task"]),
        "annotation": {
            "annotation_id": derived("annotation", *names),
            "user_id": derived("annotator", row["annotator"]),
            "data": {"label": row["label"]},
        },
        "workflow": "rte",
    }


def calm(checks):
    """Published by a foreign client, message by message."""
    run(checks, kills=0, publish=publish)


def killed(checks):
    """Published by `glyph publish`, while a worker is killed again and again."""
    run(checks, kills=KILLS, publish=publish_with_glyph)


def run(checks, kills, publish):
    labels = read_labels()
    by_task = collections.defaultdict(list)
    for row in labels:
        by_task[derived("task", row["task"])].append(row["label"])
    expected = {task: Expected(of_task) for task, of_task in by_task.items()}
    tied = {task for task, of_task in expected.items() if of_task.tied}
    if os.environ.get("GLYPH_DATA"):
        checks.equal("the file is the one known", (len(labels), len(expected), len(tied)), (8000, 800, 65))
    commands = [command(row) for row in labels]

    with Deployment("rte_kill" if kills else "rte") as glyph:
        glyph.create_workflow(WORKFLOW)
        workers = [glyph.start_worker() for _ in range(2)]
        with Broker(glyph) as broker:
            everything = broker.listen("check", "events", "#")
            feed(checks, glyph, workers, commands, kills, publish)
            await_status(glyph, {"completed": len(expected) - len(tied), "running": len(tied)})
            checks.equal("all submissions applied", outcomes(glyph), {("applied", None): len(commands)})

            for task in tied:
                broker.publish("submission", adjudication(task))
            await_status(glyph, {"completed": len(expected)})
            checks.equal("adjudications applied", outcomes(glyph), {("applied", None): len(commands) + len(tied)})
            published = drain_until_told(broker, everything, len(expected))
            wait_until("outbox empty", glyph.outbox_is_empty, 30)

            checks.all("versions from 1 without gaps, tasks at their last", glyph.version_faults())
            steps = broker.drain(broker.named("step-completed"))
            moves = broker.drain(broker.named("transition-occurred"))
            if not kills:
                checks.equal("nothing published twice", len({m.json["id"] for m in steps + moves}), len(steps + moves))
            check_envelopes(checks, steps + moves)
            check_steps(checks, first_deliveries(checks, "step-completed", steps), expected, tied)
            check_moves(checks, first_deliveries(checks, "transition-occurred", moves), expected, tied)
            check_outputs(checks, published + broker.drain(everything), expected)
            checks.equal("nothing dead-lettered", broker.depth(broker.named("dead")), 0)

            check_repetition(checks, glyph, workers, broker, everything, commands)
            checks.equal("workers stop in order", [worker.terminate() for worker in workers], [0, 0])
            check_rebuild(checks, glyph)


def feed(checks, glyph, workers, commands, kills, publish):
    """Publishes everything; at even intervals of progress, the first worker is killed and restarted."""
    failure = []

    def publish_all():
        try:
            publish(glyph, commands)
        except Exception as error:  # shown by the main thread
            failure.append(error)

    publisher = threading.Thread(target=publish_all, daemon=True)
    publisher.start()
    marks = [len(commands) * (kill + 1) // (kills + 1) for kill in range(kills)]
    victim, done = workers[0], 0

    def applied():
        if failure:
            raise failure[0]
        return glyph.value("SELECT count(*) FROM commands")

    for mark in marks:
        wait_until(f"{mark} commands applied", lambda mark=mark: applied() >= mark, DRAIN_SECONDS_MAX)
        done += applied() < len(commands)
        victim.kill()
        victim.start()
        victim.wait_until_ready()
    wait_until("everything published and applied", lambda: applied() >= len(commands), DRAIN_SECONDS_MAX)
    publisher.join()
    if kills:
        checks.true("kills hit a worker with work before it", done >= 3, f"{done} of {kills}")


def publish(glyph, commands):
    with Broker(glyph) as broker:
        for body in commands:
            broker.publish("submission", body)


def publish_with_glyph(glyph, commands):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(body) + "\n" for body in commands)
        file.flush()
        glyph.glyph("publish", file.name)


def adjudication(task):
    return {
        "type": "submission",
        "command_id": derived("adjudication", task),
        "task_id": task,
        "annotation": {"user_id": derived("adjudicator"), "data": {"label": adjudicated(task)}},
    }


def adjudicated(task):
    return str(int(task[-1], 16) % 2)


def outcomes(glyph):
    rows = glyph.rows("SELECT outcome, reason, count(*) FROM commands GROUP BY outcome, reason")
    return {(outcome, reason): count for outcome, reason, count in rows}


def await_status(glyph, counts):
    def reached():
        return dict(glyph.rows("SELECT status, count(*) FROM tasks GROUP BY status")) == counts

    try:
        wait_until(f"tasks by status {counts}", reached, DRAIN_SECONDS_MAX)
    except TimeoutError:
        print("  tasks by status:", glyph.rows("SELECT status, count(*) FROM tasks GROUP BY status"), outcomes(glyph))
        raise


def drain_until_told(broker, queue, items):
    """Everything published until the agreement over all items is reported, some seconds after the last of them:
    from then on nothing more is due of what has happened so far."""
    messages = []

    def told():
        messages.extend(broker.drain(queue))
        progress = [m.json["data"] for m in messages if m.key.startswith("agreement.progressed.")]
        return any(data["items"] == items for data in progress)

    wait_until(f"agreement over {items} items told", told, 30)
    return messages


def first_deliveries(checks, queue, messages):
    """One message an id; a task's first deliveries must come in the order of its versions."""
    first, last, faults = {}, {}, []
    for message in messages:
        event = message.json
        if event["id"] in first:
            continue
        first[event["id"]] = message
        if event["sequence"] <= last.get(event["subject"], ""):
            faults.append((event["subject"], last[event["subject"]], event["sequence"]))
        last[event["subject"]] = event["sequence"]
    checks.all(f"{queue}: a task's messages in the order of its versions", faults)
    return list(first.values())


def check_envelopes(checks, messages):
    faults = []
    for message in messages:
        event, properties = message.json, message.properties
        held = {
            "specversion": event["specversion"] == "1.0",
            "source": event["source"] == "/glyph/workflows/rte",
            "subject": event["subject"] == event["partitionkey"] == event["data"]["task_id"],
            "sequence": len(event["sequence"]) == 20 and int(event["sequence"]) == event["data"]["version"],
            "correlationid": event["correlationid"] == event["causationid"] == properties.correlation_id,
            "data": event["data"]["workflow"] == "rte" and event["data"]["revision"] == 1,
            "message_id": properties.message_id == event["id"],
            "type": properties.type == event["type"],
            "content_type": properties.content_type == "application/cloudevents+json",
            "delivery_mode": properties.delivery_mode == 2,
            "app_id": properties.app_id == "glyph",
            "timestamp": properties.timestamp is not None,
        }
        faults += [(event["id"], name) for name, true in held.items() if not true]
    checks.all("messages are CloudEvents with matching AMQP properties", faults)


def check_steps(checks, messages, expected, tied):
    seen = collections.Counter()
    faults = []
    for message in messages:
        event = message.json
        data = event["data"]
        task, step, result = data["task_id"], data["step_id"], data["result"]
        seen[(task, step, data["visit"])] += 1
        if event["type"] != "dev.glyph.step.completed.v1" or message.key != f"step.completed.rte.{step}":
            faults.append((event["type"], message.key))
        if step == "annotate":
            want = expected[task]
            value = None if want.tied else want.majority
            held = result["kind"] == "consensus" and result["value"] == value and abs(result["agreement"] - want.agreement) < 1e-9
            held = held and (want.tied or result["resolved_by"] == "majority_vote")
        else:
            held = result["kind"] == "adjudication" and result["value"] == adjudicated(task)
        if not held:
            faults.append((task, step, result))
    once = collections.Counter([(task, "annotate", 1) for task in expected] + [(task, "adjudicate", 1) for task in tied])
    checks.true("exactly one StepCompleted for each task, step and visit", seen == once, f"{sum(seen.values())} messages")
    checks.all("StepCompleted carries the recomputed value and agreement", faults)


def check_moves(checks, messages, expected, tied):
    seen = collections.Counter()
    for message in messages:
        data = message.json["data"]
        seen[(data["task_id"], data["from_step"], data["to_step"], data["condition_met"], message.key)] += 1
    key = "transition.occurred.rte."
    want = collections.Counter()
    for task in expected:
        if task in tied:
            want[(task, "annotate", "adjudicate", "on_disagreement", key + "annotate")] = 1
            want[(task, "adjudicate", "_complete", "always", key + "adjudicate")] = 1
        else:
            want[(task, "annotate", "_complete", "on_agreement", key + "annotate")] = 1
    difference = list((seen - want).items())[:2] + list((want - seen).items())[:2]
    checks.true("exactly the expected TransitionOccurred", seen == want, f"for example {difference}")


def check_outputs(checks, messages, expected):
    outputs = {}
    for message in messages:
        event = message.json
        if event["type"] == "dev.glyph.workflow.completed.v1":
            outputs[event["subject"]] = event["data"]["output"]["result"]
    want = {task: adjudicated(task) if of_task.tied else of_task.majority for task, of_task in expected.items()}
    faults = [(task, outputs.get(task)) for task in want if outputs.get(task) != want[task]]
    checks.all("WorkflowCompleted carries the majority or the adjudicated label", faults)


def check_repetition(checks, glyph, workers, broker, everything, commands):
    """The same commands again: nothing changes, nothing is published."""

    def photograph():
        return [
            glyph.value("SELECT count(*) FROM workflow_events"),
            glyph.value("SELECT sum(version) FROM tasks"),
            glyph.value("SELECT count(*) FROM commands"),
        ]

    def settled():
        return sum(worker.total("glyph_commands_total", type="submission") for worker in workers)

    before, settled_before = photograph(), settled()
    publish(glyph, commands)
    wait_until("repeated commands settled", lambda: settled() >= settled_before + len(commands), DRAIN_SECONDS_MAX)
    wait_until("outbox empty", glyph.outbox_is_empty, 30)
    checks.equal("published again, nothing changes", photograph(), before)
    depths = [broker.depth(queue) for queue in (everything, broker.named("step-completed"), broker.named("transition-occurred"))]
    checks.equal("published again, nothing is published", depths, [0, 0, 0])
    checks.equal("published again, nothing is dead-lettered", broker.depth(broker.named("dead")), 0)


def check_rebuild(checks, glyph):
    """A rebuild from the log gives the same derived data."""

    def photograph():
        tables = ("tasks", "timers", "workflow_snapshots")
        return {table: sorted(row for (row,) in glyph.rows(f"SELECT to_jsonb(t)::text FROM {table} t")) for table in tables}

    before = photograph()
    glyph.glyph("rebuild")
    after = photograph()
    for table, rows in before.items():
        differing = next((pair for pair in zip(rows, after[table]) if pair[0] != pair[1]), None)
        detail = f"{len(rows)} rows, then {len(after[table])}, {differing}"
        checks.true(f"a rebuild leaves {table} as it was", rows == after[table], detail)
