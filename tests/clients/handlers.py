"""External handlers: a webhook on a server that verifies the signature, and a job queue for a consumer on pika."""

import base64
import hashlib
import hmac
import json
import time

from glyph_client import Answering, Broker, Deployment, HttpServer, fresh, submission, wait_until

SECRET = b"a secret that only the check knows"
WORKFLOW = """
workflow:
  id: assisted
  name: A person labels, a model judges, another program finishes
  steps:
    - id: annotate
      type: annotation
    - id: judge
      type: auto_process
      handler: webhook
      config: {{ url: "{url}", headers: {{ X-Team: checks }} }}
    - id: transcribe
      type: auto_process
      handler: queue
      config: {{ model: large }}
  transitions:
    - {{ from: annotate, to: judge }}
    - {{ from: judge, to: transcribe }}
    - {{ from: transcribe, to: _complete }}
"""

HOOKED = """
workflow:
  id: hooked
  name: A model suggests, a person corrects, another program finishes
  steps:
    - id: label
      type: annotation
      field: label
      hooks:
        pre_process: [{{ handler: webhook, config: {{ url: "{url}/suggest" }} }}]
        on_start: [queue]
        post_process: [{{ handler: queue, config: {{ form: short }} }}]
        on_complete: [{{ handler: webhook, config: {{ url: "{url}/done" }} }}]
"""


def main(checks):
    with Server() as server, Deployment("handlers") as glyph:
        glyph.create_workflow(WORKFLOW.format(url=f"http://127.0.0.1:{server.port}/judge"))
        worker = glyph.start_worker(
            GLYPH_WEBHOOK_HOSTS=f"127.0.0.1:{server.port}",
            GLYPH_WEBHOOK_ALLOW_PRIVATE="true",
            GLYPH_WEBHOOK_SECRET="whsec_" + base64.b64encode(SECRET).decode(),
        )
        with Broker(glyph) as broker:
            jobs = broker.listen("jobs", "events", "job.requested.#")
            ended = broker.listen("ended", "events", "workflow.completed.#")
            task = fresh()
            broker.publish("submission", submission(task, fresh(), {"label": "cat"}, workflow="assisted"))
            (job,) = wait_until("a job", lambda: broker.drain(jobs), 60)
            check_calls(checks, server.calls, task)

            data = job.json["data"]
            told = data["task_id"], data["step_id"], data["config"], data["attempt"]
            checks.equal("the job says what is to be done", told, (task, "transcribe", {"model": "large"}, 1))
            advance = {"command_id": fresh(), "task_id": task, "step_id": "transcribe", "output": {"text": "miaow"}}
            broker.publish("advance", advance)
            (completed,) = wait_until("the end", lambda: broker.drain(ended), 30)
            output = completed.json["data"]["output"]
            checks.equal("the judge's answer is its step's value", output["steps"]["judge"]["value"], {"seen": "cat"})
            checks.equal("the job's answer is the result", output["result"], {"text": "miaow"})
            wait_until("outbox empty", glyph.outbox_is_empty, 30)
            checks.equal("one job, told once", broker.drain(jobs), [])
            outcomes = {
                labels["outcome"] for name, labels, value in worker.samples()
                if name == "glyph_handler_duration_seconds_count" and labels["handler"] == "webhook" and value
            }
            checks.equal("both attempts are counted by their outcome", len(outcomes), 2)
            check_hooks(checks, glyph, broker, server, jobs, ended)


def check_hooks(checks, glyph, broker, server, jobs, ended):
    glyph.create_workflow(HOOKED.format(url=f"http://127.0.0.1:{server.port}"))
    task = fresh()
    broker.publish("start", {"command_id": fresh(), "task_id": task, "workflow": "hooked", "input": {"text": "miaow"}})
    (begun,) = wait_until("the job of on_start", lambda: broker.drain(jobs), 60)
    checks.equal("the job names its hook", begun.json["data"]["hook"], "on_start")
    checks.equal("it is given what was prepared", begun.json["data"]["input"]["prepared"], {"label": "Cat"})
    broker.publish("submission", submission(task, fresh(), {"label": "Cat"}, step_id="label"))
    (job,) = wait_until("the job of post_process", lambda: broker.drain(jobs), 30)
    data = job.json["data"]
    checks.equal("the job is given the result", (data["hook"], data["config"], data["input"]["result"]["value"]),
                 ("post_process", {"form": "short"}, "Cat"))
    checks.equal("the step has not ended", broker.drain(ended), [])
    # The key of the job is the id of the answer, so that a repeated answer has no effect.
    answer = {"command_id": data["idempotency_key"], "task_id": task, "step_id": "label", "output": "cat"}
    for _ in range(2):
        broker.publish("advance", answer)
    (completed,) = wait_until("the end", lambda: broker.drain(ended), 30)
    checks.equal("the answer replaces the value", completed.json["data"]["output"]["result"], "cat")
    done = wait_until("on_complete", lambda: [call for call in server.calls if call.path == "/done"], 30)
    checks.equal("the end is told once", len(done), 1)
    checks.equal("and with the value", done[0].json["input"]["result"]["value"], "cat")
    checks.true("hooks are signed, too", all(call.is_signed() for call in server.calls))


def check_calls(checks, calls, task):
    checks.equal("the webhook is called again after a 503, then no more", len(calls), 2)
    for call in calls:
        checks.true("the signature is right", call.is_signed())
        checks.true("the call is fresh", abs(time.time() - int(call.headers["webhook-timestamp"])) < 60)
        checks.equal("own headers are sent", call.headers["x-team"], "checks")
        checks.equal("the task is named", (call.json["task_id"], call.json["step_id"]), (task, "judge"))
    keys = {call.headers["idempotency-key"] for call in calls}
    checks.equal("every attempt has the same key", len(keys), 1)
    checks.equal("attempts are numbered", [call.json["attempt"] for call in calls], [1, 2])


class Call:
    def __init__(self, path, headers, body):
        self.path = path
        self.headers = headers
        self.body = body
        self.json = json.loads(body)

    def is_signed(self):
        """By the Standard Webhooks specification; one matching signature is enough."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        own = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
        return any(hmac.compare_digest(given, f"v1,{own}") for given in self.headers["webhook-signature"].split())


class Server(HttpServer):
    """Answers 503 to the first call, then echoes what it was sent."""

    def __init__(self):
        self.calls = calls = []

        class Handler(Answering):
            def do_POST(self):
                call = Call(self.path, self.headers, self.body())
                calls.append(call)
                if len(calls) == 1:
                    self.answer(503)
                elif call.path == "/suggest":
                    self.answer(200, json.dumps({"label": "Cat"}).encode())
                elif call.path == "/done":
                    self.answer(204)
                else:
                    label = call.json["input"]["results"]["annotate"]["value"]["label"]
                    self.answer(200, json.dumps({"seen": label}).encode())

        super().__init__(Handler)
