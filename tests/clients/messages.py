"""Every message, from a run: a small deployment is played until each kind of message has been sent once.

The messages are read by the CloudEvents SDK and checked against the schemas in schemas/, by a validator that is not the
project's own, and compared with the examples of the documentation: routing key, properties, and which fields there are.

    ./test clients messages               checks
    ./test clients --record messages      writes schemas/examples/ anew
"""

import json
import uuid

from cloudevents.core.bindings.rabbitmq import RabbitMQMessage, from_rabbitmq
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator, FormatChecker

from glyph_client import REPOSITORY, Broker, Deployment, derived, fresh, submission

SCHEMAS = REPOSITORY / "schemas"
EXAMPLES = SCHEMAS / "examples"

SENTIMENT = """
workflow:
  id: sentiment
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2, timeout: 2s, timeout_action: requeue }
      answer: { field: label, kind: category, values: [positive, negative, neutral] }
      consensus: { threshold: 1.0, on_disagreement: { strategy: adjudication } }
    - id: adjudicate
      type: adjudication
      assignment: { required_roles: [adjudicator] }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
goals:
  - { id: first-batch, type: volume, target: 2, unit: tasks, alerts: { progress: [0.5] }, on_complete: [notify] }
"""

# Another program prepares; the first of two people goes on; what is spam fails.
MODERATION = """
workflow:
  id: moderation
  settings: { allow_parallel_steps: true }
  steps:
    - { id: suggest, type: auto_process, handler: queue, config: { model: small } }
    - { id: first, type: annotation, field: verdict }
    - { id: second, type: annotation, field: verdict }
    - { id: decide, type: auto_process, handler: finalize, join_mode: any }
    - { id: notify, type: auto_process, handler: webhook, config: { url: "https://unlisted.example/done" }, on_error: skip }
  transitions:
    - { from: suggest, to: first }
    - { from: suggest, to: second }
    - { from: first, to: decide }
    - { from: second, to: decide }
    - { from: decide, to: _failed, condition: { type: expression, expression: "result.value == 'spam'" } }
    - { from: decide, to: notify, condition: { type: expression, expression: "result.value == 'fine'" } }
    - { from: notify, to: _complete }
"""

URGENT = """
workflow:
  id: urgent
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 1, timeout: 1s, timeout_action: fail }
"""

WATCHED = """
workflow:
  id: watched
  gold: { share: 0.1, min_accuracy: 0.7, window: 5, on_fall: pause }
  steps:
    - { id: annotate, type: annotation, answer: { field: label, kind: category, values: [cat, dog] } }
"""

ADAPTIVE = """
workflow:
  id: adaptive
  steps:
    - id: annotate
      type: annotation
      completion: { type: confidence, target: 0.9, min: 3, max: 3 }
      answer: { field: label, kind: category, values: [cat, dog] }
"""


def main(checks, record=False):
    with Deployment("messages") as glyph:
        for workflow in (SENTIMENT, MODERATION, URGENT, WATCHED, ADAPTIVE):
            glyph.create_workflow(workflow)
        glyph.start_worker()
        with Broker(glyph) as broker:
            heard = Heard(broker)
            play(glyph, broker, heard)
    names = kinds()
    checks.equal("every kind of message has been sent", sorted(heard.first), sorted(names))
    checks.all("the CloudEvents SDK reads each of them", [fault for message in heard.all for fault in sdk_faults(message)])
    checks.all("each of them matches its schema", [fault for message in heard.all for fault in schema_faults(message)])
    checks.all("properties and routing key say what the body says", [fault for message in heard.all for fault in property_faults(message)])
    ids = [message.json["id"] for message in heard.all]
    checks.equal("no message came twice", len(ids), len(set(ids)))
    if record:
        EXAMPLES.mkdir(exist_ok=True)
        for kind, message in heard.first.items():
            example(names[kind]).write_text(json.dumps(message.json, indent=2, ensure_ascii=False) + "\n")
        print(f"  {len(heard.first)} examples written; UPDATE_SCHEMAS=1 cargo test writes the pages that show them")
    unlike = [
        (kind, difference)
        for kind, message in heard.first.items()
        if (difference := differing(json.loads(example(names[kind]).read_text()), message.json))
    ]
    checks.all("the examples have the fields that are sent", unlike)


def play(glyph, broker, heard):
    """Each part waits for what it leads to, so that the order of a run is always the same."""
    adjudicators = {"roles": ["adjudicator"]}
    ann, ben, cleo = (derived("user", name) for name in ("ann", "ben", "cleo"))

    # Two agree; then two differ and a third decides; a claim is given back, another one runs out.
    agreed, disputed = fresh(), fresh()
    send(broker, "start", agreed, workflow="sentiment", input={"text": "Lovely!"}, labels={"project": "p1"})
    heard.wait("workflow.started", agreed)
    send(broker, "assign", agreed, step_id="annotate", user_id=ann)
    heard.wait("task.assigned", agreed)
    send(broker, "release", agreed, step_id="annotate", user_id=ann, reason="unclear guideline")
    heard.wait("task.released", agreed)
    send(broker, "assign", agreed, step_id="annotate", user_id=ann)
    heard.wait("task.stalled", agreed)
    for user in (ann, ben):
        broker.publish("submission", submission(agreed, user, {"label": "positive"}))
    heard.wait("workflow.completed", agreed)
    broker.publish("submission", submission(agreed, cleo, {"label": "negative"}))
    heard.wait("command.rejected", agreed)
    for user, label in ((ann, "negative"), (ben, "neutral")):
        broker.publish("submission", submission(disputed, user, {"label": label}, workflow="sentiment"))
    heard.wait("step.activated", disputed, step="adjudicate")
    judgement = submission(disputed, cleo, {"label": "negative"})
    judgement["annotation"] |= adjudicators
    broker.publish("submission", judgement)
    heard.wait("workflow.completed", disputed)
    heard.wait("goal.alert")
    heard.wait("goal.progressed")
    heard.wait("goal.completed")
    heard.wait("agreement.progressed")

    # The verbs of operators.
    paused = fresh()
    send(broker, "start", paused, workflow="sentiment")
    send(broker, "pause", paused, reason="the guideline is being rewritten", until="2100-01-01T00:00:00Z")
    send(broker, "resume", paused, reason="done")
    heard.wait("workflow.resumed", paused)
    glyph.create_workflow(SENTIMENT.replace("target: 2", "target: 20"))
    send(broker, "migrate", paused, to="sentiment@2")
    heard.wait("workflow.migrated", paused)
    send(broker, "cancel", paused, reason="withdrawn by the customer")
    heard.wait("workflow.cancelled", paused)

    # A job of another program; a branch that comes too late; a call that is not allowed is skipped.
    for task, verdict, end in ((fresh(), "fine", "workflow.completed"), (fresh(), "spam", "workflow.failed")):
        send(broker, "start", task, workflow="moderation", input={"text": "Buy now"})
        job = heard.wait("job.requested", task)
        send(broker, "advance", task, step_id="suggest", output={"verdict": "spam"}, command_id=job["data"]["idempotency_key"])
        heard.wait("step.activated", task, step="second")
        broker.publish("submission", submission(task, ann, {"verdict": verdict}, step_id="first"))
        heard.wait("step.withdrawn", task)
        heard.wait(end, task)
    heard.wait("step.skipped")

    # A verdict that no transition knows.
    odd = fresh()
    send(broker, "start", odd, workflow="moderation", input={"text": "?"})
    job = heard.wait("job.requested", odd)
    send(broker, "advance", odd, step_id="suggest", output={"verdict": "?"}, command_id=job["data"]["idempotency_key"])
    heard.wait("step.activated", odd, step="second")
    broker.publish("submission", submission(odd, ann, {"verdict": "unsure"}, step_id="first"))
    heard.wait("incident.opened", odd)
    glyph.create_workflow(MODERATION.replace("result.value == 'fine'", "result.value != 'spam'"))
    send(broker, "migrate", odd, to="moderation@2")
    send(broker, "retry", odd, reason="the workflow is mended")
    heard.wait("incident.resolved", odd)

    # Nobody keeps a promise in time.
    late = fresh()
    send(broker, "start", late, workflow="urgent")
    send(broker, "assign", late, step_id="annotate", user_id=ann)
    heard.wait("step.failed", late)

    # Somebody is wrong on known answers.
    for _ in range(5):
        gold = fresh()
        send(broker, "start", gold, workflow="watched", expected={"label": "cat"})
        heard.wait("workflow.started", gold)
        broker.publish("submission", submission(gold, ben, {"label": "dog"}))
        heard.wait("workflow.completed", gold)
    heard.wait("annotator.flagged")

    # The first answer was two against one; known answers then show who is right.
    trio = (ann, ben, cleo)
    first = fresh()
    for user, label in zip(trio, ("cat", "dog", "dog")):
        broker.publish("submission", submission(first, user, {"label": label}, workflow="adaptive"))
    heard.wait("workflow.completed", first)
    for n in range(20):
        right, wrong = ("cat", "dog") if n % 2 else ("dog", "cat")
        gold = fresh()
        send(broker, "start", gold, workflow="adaptive", expected={"label": right})
        heard.wait("workflow.started", gold)
        for user, label in zip(trio, (right, wrong, wrong)):
            broker.publish("submission", submission(gold, user, {"label": label}))
        heard.wait("workflow.completed", gold)
    glyph.glyph("labels", "look", "--workflow", "adaptive")
    heard.wait("answer.revised", first)


def send(broker, kind, task, command_id=None, **fields):
    broker.publish(kind, {"type": kind, "command_id": command_id or fresh(), "task_id": task, **fields})


class Heard:
    """Everything that is published, with the first message of each kind."""

    def __init__(self, broker):
        self.inbox = broker.subscribe(broker.listen("messages", "events", "#"))
        self.all = []
        self.first = {}

    def wait(self, kind, task=None, step=None):
        """The message of that kind about the task (and step), which may have come already."""

        def wanted(message):
            data = message.json["data"]
            return kind_of(message) == kind and task in (None, message.json["subject"]) and step in (None, data.get("step_id"))

        for message in self.all:
            if wanted(message):
                return message.json
        while True:
            message = self.inbox.next(seconds=30)
            self.all.append(message)
            self.first.setdefault(kind_of(message), message)
            if wanted(message):
                return message.json


def kind_of(message):
    """`step.completed` of `dev.glyph.step.completed.v1`."""
    return message.json["type"].removeprefix("dev.glyph.").removesuffix(".v1")


def kinds():
    """The name of each kind's schema, by kind: the files are the list of what there is."""
    names = {path.name.removesuffix(".v1.json") for path in (SCHEMAS / "messages").glob("*.v1.json")}
    return {name.replace("_", "."): name for name in names - {"message", "reply"}}


def example(name):
    return EXAMPLES / f"{name}.json"


def sdk_faults(message):
    """Binary or structured: the SDK tells them apart by the content type."""
    event = from_rabbitmq(RabbitMQMessage(message.headers, message.properties.content_type, message.body), JSONFormat())
    wrong = event.get_id() != message.json["id"] or event.get_data() != message.json["data"]
    return [(kind_of(message), "the SDK reads something else")] if wrong else []


def schema_faults(message):
    name = message.json["dataschema"].partition("/schemas/")[2]
    for path, value in (("messages/message.v1.json", message.json), (name, message.json["data"])):
        schema = json.loads((SCHEMAS / path).read_text())
        for fault in Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(value):
            yield path, fault.json_path, fault.message


def property_faults(message):
    body, properties = message.json, message.properties
    said = (properties.message_id, properties.correlation_id, properties.type, properties.app_id, properties.delivery_mode)
    if said != (body["id"], body["correlationid"], body["type"], "glyph", 2):
        yield kind_of(message), said
    if properties.content_type != "application/cloudevents+json":
        yield kind_of(message), properties.content_type
    workflow = body["source"].removeprefix("/glyph/workflows/")
    step = body["data"].get("from_step") if kind_of(message) == "transition.occurred" else body["data"].get("step_id")
    expected = ".".join(part for part in (kind_of(message), workflow, step) if part)
    if message.key != expected:
        yield message.key, expected
    if uuid.UUID(body["id"]).version != 5:
        yield kind_of(message), "the id is not derived"


def shape(message):
    """The fields of a message and of its data. Deeper down they depend on what was decided, and the schemas say what may be."""
    return sorted(message), sorted(message["data"])


def differing(known, sent):
    """How the fields of a message differ from the example's."""
    known, sent = shape(known), shape(sent)
    return None if known == sent else (known, sent)
