"""Dead letters are tried again: the canary stops where too many fail, and through kills each letter is tried to one end."""

import json
import time
from collections import Counter

import pika

from glyph_client import Broker, Deployment, derived, submission, wait_until

WORKFLOW = """
workflow: { id: one, steps: [ { id: annotate, type: annotation, completion: { type: annotation_count, count: 1 } } ] }
"""
FAILING_OF_100 = (33, 66, 99)
FAILED_MAX = 200  # by the stop at 1 %
REASON = "task_not_found"


def command(number):
    task, user = derived("task", str(number)), derived("user", "1")
    if number % 100 in FAILING_OF_100:
        # Its task has never begun.
        return submission(task, user, {"label": "1"}, derived("command", str(number)))
    return submission(task, user, {"label": "1"}, derived("command", str(number)), workflow="one")


def bury(broker, letters):
    """As workers put them there. Confirms are not waited for one by one."""
    channel = broker.connection.channel()
    dead = broker.named("dead")
    properties = pika.BasicProperties(
        delivery_mode=2, type="submission", headers={"x-glyph-reason": REASON, "x-glyph-attempts": 5}
    )
    for number in range(letters):
        channel.basic_publish("", dead, json.dumps(command(number)).encode(), properties)
    wait_until("all letters are there", lambda: broker.depth(dead) == letters, 120)


def main(checks, letters):
    failing = {derived("command", str(number)) for number in range(letters) if number % 100 in FAILING_OF_100}
    with Deployment("replay") as glyph:
        glyph.create_workflow(WORKFLOW)
        worker = glyph.start_worker()

        def job(name):
            return json.loads(glyph.glyph("--output", "json", "job", "show", name))["job"]

        def begin(*options):
            begun = glyph.glyph("--output", "json", "dead-letter", "replay", "--all", "--no-wait", *options)
            return json.loads(begun)["job"]

        def tried(state):
            return state["counts"].get("succeeded", 0) + state["counts"].get("failed", 0)

        with Broker(glyph) as broker:
            bury(broker, letters)
            begun = time.monotonic()
            canary = begin()
            wait_until("the canary ends", lambda: job(canary)["state"] != "running", 600)
            stopped, seconds = job(canary), time.monotonic() - begun
            print(f"          the canary: {stopped['counts']} in {seconds:.0f} s, {stopped.get('reason')}", flush=True)
            checks.equal("it stopped by itself", stopped["state"], "stopped")
            checks.true("few had failed by then", stopped["counts"].get("failed", 0) <= FAILED_MAX, stopped["counts"])
            checks.equal("it has counted every letter", sum(stopped["counts"].values()), letters)
            left = letters - stopped["counts"].get("succeeded", 0)
            wait_until("the others are in the dead queue again", lambda: broker.depth(broker.named("dead")) == left, 120)

            begun = time.monotonic()
            # What has failed is first in the queue now.
            whole = begin("--stop-at", "100%")
            marks = [
                ("letters move into it", lambda state: sum(state["counts"].values()) > left / 3),
                ("a quarter was tried", lambda state: tried(state) > left / 4),
                ("most were tried", lambda state: tried(state) > left * 3 / 4),
            ]
            for what, reached in marks:
                wait_until(what, lambda: reached(job(whole)) or job(whole)["state"] != "running", 600)
                worker.kill()
                worker = glyph.start_worker()
            wait_until("all were tried", lambda: job(whole)["state"] != "running", 600)
            done, seconds = job(whole), time.monotonic() - begun
            print(f"          through three kills: {done['counts']} in {seconds:.0f} s", flush=True)
            checks.equal("it is done", done["state"], "done")
            expected = {"failed": len(failing), "succeeded": left - len(failing)}
            checks.equal("its counts are exact", done["counts"], expected)
            applied = glyph.value("SELECT count(*) FROM commands WHERE outcome = 'applied' AND type = 'submission'")
            checks.equal("each sound command was applied, once", applied, letters - len(failing))
            wait_until("what failed is dead again", lambda: broker.depth(broker.named("dead")) == len(failing), 120)
            dead = Counter(message.json["command_id"] for message in broker.drain(broker.named("dead")))
            checks.equal("each once", dead, Counter(failing))
