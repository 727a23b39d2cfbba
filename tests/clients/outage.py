"""Postgres, then RabbitMQ, goes away under load: the worker stays up, says so, resumes by itself, and loses nothing."""

import os
import pathlib
import subprocess
import tempfile
import time

import pika

from glyph_client import REPOSITORY, Background, Broker, Deployment, fresh, submission, wait_until

SERVICES = os.environ.get("GLYPH_SERVICES", str(REPOSITORY / "scripts" / "services"))
COMMANDS_PER_SECOND_MAX = 200
NOTICE_SECONDS_MAX = 45  # until a lost service shows in /readyz
RESUME_SECONDS_MAX = 90
DRAIN_SECONDS_MAX = 180

WORKFLOW = """
workflow:
  id: one
  name: One annotator
  entry_step: annotate
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 1 }
"""


def services(*arguments):
    done = subprocess.run([SERVICES, *arguments], check=True, capture_output=True, text=True, timeout=180)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


class Load(Background):
    """A producer that continues through every failure: a command counts once it is confirmed."""

    def __init__(self, glyph):
        super().__init__()
        self.glyph = glyph
        self.confirmed = []

    def run(self):
        broker, command = None, None
        while command or not self.stopped.is_set():
            command = command or submission(fresh(), fresh(), {"label": "1"}, workflow="one")
            try:
                broker = broker or Broker(self.glyph)
                broker.publish("submission", command)
            except (pika.exceptions.AMQPError, OSError):
                broker = None  # its fate is unknown: the same command again, on a new connection
            else:
                self.confirmed.append(command)
                command = None
            self.stopped.wait(1 / COMMANDS_PER_SECOND_MAX)
        if broker:
            broker.close()

    def await_more(self, count):
        goal = len(self.confirmed) + count
        wait_until(f"{goal} commands confirmed", lambda: len(self.confirmed) >= goal, RESUME_SECONDS_MAX)


def main(checks, seconds):
    with tempfile.TemporaryDirectory(prefix="glyph-outage.", ignore_cleanup_errors=True) as folder:
        try:
            urls = services("start", folder)
            for service in ("postgres", "rabbitmq"):
                outage(checks, folder, urls, service, seconds)
        finally:
            services("stop", folder)


def outage(checks, folder, urls, service, seconds):
    with Deployment(f"outage_{service}", urls["DATABASE_URL"], urls["AMQP_URL"]) as glyph:
        glyph.create_workflow(WORKFLOW)
        worker = glyph.start_worker()
        process = worker.process.pid
        with Load(glyph) as load:
            load.await_more(100)
            services("stop", folder, service)
            wait_until(f"/readyz says 503 without {service}", lambda: worker.get("/readyz")[0] == 503, NOTICE_SECONDS_MAX)
            watch(checks, worker, service, seconds)
            services("start", folder, service)
            worker.wait_until_ready(RESUME_SECONDS_MAX)
            load.await_more(100)
        checks.true(f"{service}: the same process is ready again", worker.lives() and worker.process.pid == process)
        check_nothing_lost(checks, glyph, service, load.confirmed)
        checks.equal(f"{service}: the worker stops in order", worker.terminate(), 0)
        warnings = [line for line in pathlib.Path(folder, "postgres.log").read_text().splitlines() if "WARNING:" in line]
        checks.all(f"{service}: nothing but the outage is in PostgreSQL's log", warnings)


def watch(checks, worker, service, seconds):
    """During the whole outage the worker is alive and not ready."""
    until = time.monotonic() + seconds
    faults = []

    def over():
        seen = (worker.lives(), worker.get("/livez")[0], worker.get("/readyz")[0])
        if seen != (True, 200, 503):
            faults.append(seen)
        return time.monotonic() > until

    wait_until("the outage over", over, seconds + 30)
    checks.all(f"{service}: alive and not ready for {seconds} s without it", faults)


def check_nothing_lost(checks, glyph, service, commands):
    def completed():
        return glyph.value("SELECT count(*) FROM tasks WHERE status = 'completed'") >= len(commands)

    wait_until("every confirmed command applied", completed, DRAIN_SECONDS_MAX)
    wait_until("outbox empty", glyph.outbox_is_empty, RESUME_SECONDS_MAX)
    rows = glyph.rows("SELECT command_id::text, outcome FROM commands")
    sent = {command["command_id"] for command in commands}
    held = dict(rows) == dict.fromkeys(sent, "applied")
    checks.true(f"{service}: every confirmed command applied, no other", held, f"{len(rows)} of {len(sent)}")
    checks.all(f"{service}: versions from 1 without gaps", glyph.version_faults())
    with Broker(glyph) as broker:
        events = {m.json["id"]: m.json["subject"] for m in broker.drain(broker.named("step-completed"))}
        tasks = {command["task_id"] for command in commands}
        held = sorted(events.values()) == sorted(tasks)
        checks.true(f"{service}: one StepCompleted for each task", held, f"{len(events)} of {len(tasks)}")
        checks.equal(f"{service}: nothing dead-lettered", broker.depth(broker.named("dead")), 0)
