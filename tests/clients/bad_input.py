"""Commands that cannot be read or are not allowed: each gets its outcome, and a valid one behind it is applied."""

import json

from glyph_client import Broker, Deployment, fresh, submission, wait_until

ANNOTATORS = 10
OUTCOME_SECONDS_MAX = 20
ODD_MESSAGE_ID = "job 17/a"
RETRIES_SECONDS_MAX = 150  # the delays before an unknown task is given up add up to 81 s

WORKFLOW = """
workflow:
  id: ten
  name: Ten annotators
  entry_step: annotate
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 10, unique_annotators: true }
      consensus:
        metric: percent_agreement
        field: label
        threshold: 0.5
        on_agreement: { method: majority_vote }
        on_disagreement: { strategy: majority_vote }
"""


class Bench:
    """A deployment with a worker, and the three places where outcomes show."""

    def __init__(self, checks, glyph, broker):
        self.checks, self.glyph, self.broker = checks, glyph, broker
        self.replies_to = broker.own_queue("check-replies")
        self.dead = broker.listen("check-dead", "dead", "")
        self.rejections = broker.listen("check-rejected", "events", "command.rejected.#")
        self.replies, self.dead_letters, self.rejected = [], [], []

    def send(self, command, key="submission", **properties):
        self.broker.publish(key, command, reply_to=self.replies_to, correlation_id=fresh(), **properties)

    def arrived(self, queue, kept, belongs):
        """The first matching message of a queue; the others are kept for later."""

        def look():
            kept.extend(self.broker.drain(queue))
            return next((message for message in kept if belongs(message)), None)

        return look

    def row(self, command_id):
        return self.glyph.rows("SELECT outcome, reason FROM commands WHERE command_id = %s", (command_id,))

    def expect_row(self, what, command_id, outcome, reason=None):
        row = wait_until(f"{what}: a row in commands", lambda: self.row(command_id), OUTCOME_SECONDS_MAX)
        return self.checks.equal(f"{what}: row in commands", row, [(outcome, reason)])

    def expect_reply(self, what, command_id, outcomes, reason=None):
        belongs = lambda message: message.json["command_id"] == command_id
        reply = wait_until(f"{what}: a reply", self.arrived(self.replies_to, self.replies, belongs), OUTCOME_SECONDS_MAX)
        self.replies.remove(reply)
        answer = reply.json
        held = answer["outcome"] in outcomes and answer.get("reason") == reason
        self.checks.true(f"{what}: reply", held, f"{answer}")
        return answer

    def good(self, what):
        """A command behind a bad one."""
        command = submission(fresh(), fresh(), {"label": "1"}, workflow="ten")
        self.send(command)
        self.expect_row(f"{what}: the command behind", command["command_id"], "applied")
        return command

    def applied(self, what, command, key="submission", **properties):
        self.send(command, key, **properties)
        self.expect_row(what, properties.get("message_id") or command["command_id"], "applied")

    def rejected_with(self, reason, what, command, key="submission"):
        self.send(command, key)
        command_id = command["command_id"]
        self.good(what)
        self.expect_row(what, command_id, "rejected", reason)
        self.expect_reply(what, command_id, {"rejected"}, reason)
        caused = lambda message: message.json.get("causationid") == command_id
        message = wait_until(f"{what}: message", self.arrived(self.rejections, self.rejected, caused), OUTCOME_SECONDS_MAX)
        event = message.json
        held = event["type"] == "dev.glyph.command.rejected.v1" and "sequence" not in event
        self.checks.true(f"{what}: CommandRejected message", held, f"{event}")

    def dead_with(self, reason, what, body, key="submission", seconds=OUTCOME_SECONDS_MAX, behind=True, **properties):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(body, key, **properties)
        if behind:
            self.good(what)
        self.await_dead(reason, what, body, key, seconds)

    def await_dead(self, reason, what, body, key, seconds):
        same = lambda message: message.body == body
        message = wait_until(f"{what}: dead letter", self.arrived(self.dead, self.dead_letters, same), seconds)
        self.dead_letters.remove(message)
        headers = message.headers
        self.checks.equal(f"{what}: dead-lettered", headers.get("x-glyph-reason"), reason)
        missing = [name for name in ("x-glyph-error", "x-glyph-attempts", "x-glyph-first-failed-at") if not headers.get(name)]
        self.checks.true(f"{what}: headers and routing key", not missing and message.key == key, f"no {missing}, key {message.key}")


def main(checks):
    with Deployment("bad_input") as glyph:
        glyph.create_workflow(WORKFLOW)
        worker = glyph.start_worker()
        with Broker(glyph) as broker:
            bench = Bench(checks, glyph, broker)
            # Retried for more than a minute: sent first, checked last.
            unknown = [
                ("an advance of an unknown task", "advance", {"type": "advance", "command_id": fresh(), "task_id": fresh()}),
                ("a submission to an unknown task", "submission", submission(fresh(), fresh(), {"label": "1"})),
            ]
            for _, key, command in unknown:
                bench.send(command, key)

            deaths = unreadable(bench) + dead_at_once(bench)
            accepted(bench)
            rejected(bench)

            for what, key, command in unknown:
                bench.await_dead("task_not_found", what, json.dumps(command).encode(), key, RETRIES_SECONDS_MAX)
                checks.equal(f"{what}: no row in commands", bench.row(command["command_id"]), [])
            deaths += len(unknown)

            checks.equal("dead queue holds these and no others", broker.depth(broker.named("dead")), deaths)
            letters = listed(glyph)
            checks.equal("`glyph dead-letter list` shows them", len(letters), deaths)
            odd = [letter for letter in letters if letter["command_id"] == ODD_MESSAGE_ID]
            shown = [json.loads(glyph.glyph("dead-letter", "show", ODD_MESSAGE_ID, "--output", "json"))]
            checks.equal("one whose id is no UUID is shown by the id of the list", shown, odd)
            checks.true("the worker lives and is ready", worker.lives() and worker.is_ready())
            checks.all("versions from 1 without gaps", glyph.version_faults())


def listed(glyph):
    """The entries of the list, whether it is the document or a field of it."""
    document = json.loads(glyph.glyph("dead-letter", "list", "--output", "json"))
    if isinstance(document, dict):
        document = next(value for value in document.values() if isinstance(value, list))
    return document


def unreadable(bench):
    def changed(**changes):
        return submission(fresh(), fresh(), {"label": "1"}, workflow="ten") | changes

    without_id, without_task = changed(), changed()
    del without_id["command_id"], without_task["task_id"]
    bodies = {
        "malformed JSON": b'{"type": "submission", "command_id": ',
        "an empty body": b"",
        "JSON that is no object": b"[1, 2, 3]",
        "invalid UTF-8": json.dumps(changed()).encode().replace(b'"label"', b'"la\xff\xfebel"'),
        "100,000 nested brackets": b'{"type": "submission", "annotation": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "a number as task_id": changed(task_id=17),
        "a task_id that is no UUID": changed(task_id="task-17"),
        "a text as annotation": changed(annotation="positive"),
        "no command id": without_id,
        "no task id": without_task,
        "a command id that is no UUID": changed(command_id="1"),
        "an unknown type": changed(type="submit"),
        "NUL in a string": changed(annotation={"user_id": fresh(), "data": {"label": "a\u0000b"}}),
    }
    for what, body in bodies.items():
        bench.dead_with("malformed", what, body)
    bench.dead_with("malformed", "a message id that is no UUID", without_id | {"task_id": fresh()}, message_id=ODD_MESSAGE_ID)
    return len(bodies) + 1


def dead_at_once(bench):
    large = submission(fresh(), fresh(), {"label": "1", "text": "x" * (2 << 20)}, workflow="ten")
    bench.dead_with("too_large", "a body of 2 MiB", large)

    nowhere = submission(fresh(), fresh(), {"label": "1"}, workflow="no-such-workflow")
    bench.dead_with("workflow_not_found", "an unknown workflow", nowhere)
    bench.expect_reply("an unknown workflow", nowhere["command_id"], {"dead"}, "workflow_not_found")

    first = bench.good("before a reused command id")
    bench.expect_reply("a command applied", first["command_id"], {"applied"})
    other = submission(first["task_id"], fresh(), {"label": "0"}, command_id=first["command_id"], workflow="ten")
    bench.dead_with("command_id_reused", "a command id with other content", other)
    bench.expect_reply("a command id with other content", first["command_id"], {"dead"}, "command_id_reused")

    bench.send(first)
    bench.expect_reply("the same command again", first["command_id"], {"applied", "duplicate"})
    bench.expect_row("the same command again", first["command_id"], "applied")
    return 3


def accepted(bench):
    unknown_fields = submission(fresh(), fresh(), {"label": "1"}, workflow="ten", colour="blue", nested={"deep": [1, None]})
    unknown_fields["annotation"]["mood"] = "good"
    bench.applied("unknown fields", unknown_fields)

    from_properties = submission(fresh(), fresh(), {"label": "1"}, workflow="ten")
    del from_properties["command_id"], from_properties["type"]
    bench.applied("command id of the AMQP message id, type of the AMQP type", from_properties, message_id=fresh(), type="submission")
    bench.applied("type of the routing key", {**from_properties, "task_id": fresh()}, message_id=fresh())


def rejected(bench):
    task, started = fresh(), fresh()
    annotators = [fresh() for _ in range(ANNOTATORS)]

    def from_one(user, **more):
        return submission(task, user, {"label": "1"}, workflow="ten", **more)

    bench.applied("the first annotator", from_one(annotators[0]))
    bench.rejected_with("unknown_step", "an unknown step", from_one(fresh(), step_id="nowhere"))
    bench.rejected_with("duplicate_annotator", "the same annotator twice", from_one(annotators[0]))
    bench.rejected_with("invalid_annotation", "data without the field of the step", submission(task, fresh(), {"other": 1}))
    early = {"type": "advance", "command_id": fresh(), "task_id": task}
    bench.rejected_with("not_waiting", "an advance of a step short of its count", early, "advance")
    for user in annotators[1:]:
        bench.send(from_one(user))
    completed = lambda: bench.glyph.rows("SELECT 1 FROM tasks WHERE task_id = %s AND status = 'completed'", (task,))
    wait_until("the task completed", completed, OUTCOME_SECONDS_MAX)

    bench.rejected_with("surplus", "an eleventh annotator", from_one(fresh(), step_id="annotate"))
    bench.rejected_with("duplicate_annotator", "one of the ten after the end", from_one(annotators[3], step_id="annotate"))
    for kind, key in (("advance", "advance"), ("pause", "pause")):
        command = {"type": kind, "command_id": fresh(), "task_id": task, "reason": "check"}
        bench.rejected_with("task_finished", f"{kind} of a finished task", command, key)

    start = lambda: {"type": "start", "command_id": fresh(), "task_id": started, "workflow": "ten"}
    bench.applied("a start", start(), "start")
    bench.rejected_with("already_started", "a second start", start(), "start")
