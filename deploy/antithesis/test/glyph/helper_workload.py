"""What the test commands do, with the load and the invariants of the chaos check (tests/clients), on the deployment of the environment.

Run as a program it is the other side of the load: it serves the webhook's calls and reads every message. It and the commands, each a
process of its own, share a journal. Antithesis brings the faults, and schedules the commands.
"""

import contextlib
import json
import os
import pathlib
import secrets
import sys
import threading
import urllib.parse

CLIENTS = os.environ.get("GLYPH_CLIENTS") or pathlib.Path(__file__).resolve().parents[4] / "tests" / "clients"
sys.path.insert(0, str(CLIENTS))

import pika  # noqa: E402
import psycopg2  # noqa: E402

import invariants  # noqa: E402
from glyph_client import Broker, Checks, Deployment, binary, wait_until  # noqa: E402
from load import BAD_BODIES, DEAD, Commands, Handlers, Journal, Producer, Recorder, create_workflows  # noqa: E402

SETUP_SECONDS_MAX = 300
SEND_SECONDS_MAX = 300
# A command for a task that never comes is tried for a minute and a half.
SETTLE_SECONDS_MAX = 300
PER_SECOND = 100


class Named(Deployment):
    """The deployment that the environment names. It was there before, and stays."""

    def __init__(self):
        self.program = binary()
        self.database_url = os.environ["DATABASE_URL"]
        self.amqp_url = os.environ["AMQP_URL"]
        self.prefix = os.environ.get("GLYPH_PREFIX", "glyph")


class Reports(Checks):
    """Checks that Antithesis learns of, too."""

    def true(self, what, held, detail=""):
        # A property is known by its name, so numbers stay out of it.
        name = " ".join(word for word in what.split() if not word.isdigit())
        place = {"file": "invariants.py", "class": "", "function": "", "begin_line": 0, "begin_column": 0}
        report("antithesis_assert", id=name, message=name, condition=bool(held), hit=True, must_hit=True, assert_type="always",
               display_type="Always", location=place, details={"what": what, "detail": str(detail)})
        return super().true(what, held, detail)


def report(kind, **fields):
    """Tells Antithesis, by its protocol for programs without an SDK of it. Elsewhere nobody reads it."""
    if folder := os.environ.get("ANTITHESIS_OUTPUT_DIR"):
        with open(pathlib.Path(folder, "sdk.jsonl"), "a") as file:
            file.write(json.dumps({kind: fields}) + "\n")


def journal():
    return Journal(os.environ["WORKLOAD_JOURNAL"])


# --- the other side of the load ---


def serve():
    glyph, seen = Named(), journal()
    address = urllib.parse.urlsplit(f"//{os.environ['WORKLOAD_ADDRESS']}")
    handlers = Handlers(seen, seed=secrets.token_hex(8), address=(address.hostname, address.port))
    wait_until("a worker that has migrated and declared", lambda: prepared(glyph), SETUP_SECONDS_MAX)
    answers = Producer(glyph, seen, Commands("none", ()), PER_SECOND)
    answers.finish()
    recorder = Recorder(glyph, seen, answers.ask)
    with handlers, answers, recorder:
        report("antithesis_setup", status="complete", details={})
        threading.Event().wait()


def prepared(glyph):
    try:
        with Broker(glyph) as broker:
            Recorder.declare(broker)
        create_workflows(glyph, os.environ["WORKLOAD_WEBHOOKS"])
    except (pika.exceptions.AMQPError, OSError, RuntimeError) as error:
        print(f"not yet: {error}", flush=True)
        return False
    return True


# --- test commands ---


def submit(tasks, unknown_tasks):
    """Begins tasks, with bad commands among them, and ends once every command is confirmed. Commands of unknown tasks are dead much later."""
    commands = Commands(secrets.token_hex(8), DEAD if unknown_tasks else tuple(BAD_BODIES))
    with Producer(Named(), journal(), commands, PER_SECOND) as producer:
        wait_until("the tasks begun", lambda: commands.count >= tasks, SEND_SECONDS_MAX)
        producer.finish()
        wait_until("everything confirmed", producer.is_idle, SEND_SECONDS_MAX)


def check_anytime():
    checks = Reports()
    # Where the database cannot be reached, there is nothing to see.
    with contextlib.suppress(psycopg2.OperationalError):
        invariants.check_anytime(checks, Named())
    end(checks)


def check_settled():
    glyph, checks = Named(), Reports()
    invariants.work_off(glyph, journal(), None, SETTLE_SECONDS_MAX)
    invariants.check_settled(checks, glyph, journal())
    invariants.check_rebuild(checks, glyph)
    end(checks)


def end(checks):
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    serve()
