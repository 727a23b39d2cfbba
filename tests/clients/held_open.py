"""Whether somebody else's transaction holds up what follows the log: one left open in another database, then a dump of the deployment's own.

Not in the daily run: it takes over twenty minutes, and asks for a quiet machine. The same load, half of what the machine can do, goes on through
three parts: nobody else, the open transaction, a `pg_dump` whose reader is slow. A PostgreSQL of the check's own serves both databases. Use a
release build (`GLYPH_BIN`).
"""

import contextlib
import itertools
import subprocess
import tempfile
import time

import psycopg2

from glyph_client import Background, Broker, Deployment, derived, fresh, send_paced, submission, wait_until, with_database
from outage import services

WORKFLOW = """
workflow:
  id: held
  steps:
    - id: annotate
      type: annotation
      answer: { field: label, kind: category, values: [a, b, c] }
      completion: { type: confidence, target: 0.95, min: 2, max: 4 }
  transitions:
    - { from: annotate, to: _complete }
goals:
  - { id: volume, type: volume, target: 1000000, unit: annotations }
"""
PEOPLE = [derived("held open", str(number)) for number in range(20)]
COMMANDS_PER_SECOND_MAX = 1_200  # of the load with which the speed of the machine is measured
WARM_UP_SECONDS = 20
ALONE_SECONDS_MAX = 120
BEHIND_MAX = 5.0
# Suspected labels follow the log at intervals of so many seconds, whatever is open.
INTERVALS = {"labels": 5.0}
SLOWER_MAX = 0.05
# A dump's reader takes so little at a time that the dump is still open when its part ends.
DUMP_BYTES_AT_ONCE = 4_096
DUMP_PAUSE = 0.5


class Reader(Background):
    """Samples how far behind each reader of the log is, and what people ask for."""

    def __init__(self, worker):
        super().__init__()
        self.worker = worker
        self.behind = {}

    def run(self):
        while not self.stopped.wait(1):
            for name, labels, value in self.worker.samples():
                if name in ("glyph_projection_lag_seconds", "glyph_model_lag_seconds"):
                    of = labels.get("projection", "reliability")
                    self.behind[of] = max(value, self.behind.get(of, 0))
            # Models learn for those who ask.
            self.worker.get("/api/v1/annotators?workflow=held")


def main(checks, seconds):
    with tempfile.TemporaryDirectory() as folder:
        url = services("start", folder, "postgres")["DATABASE_URL"]
        try:
            with Deployment("held", database_url=url) as glyph:
                play(checks, glyph, seconds)
        finally:
            services("stop", folder, "postgres")


def play(checks, glyph, seconds):
    glyph.create_workflow(WORKFLOW)
    glyph.admin("CREATE DATABASE elsewhere")
    worker = glyph.start_worker()
    with Broker(glyph) as broker:
        load(broker, worker, COMMANDS_PER_SECOND_MAX, min(seconds, WARM_UP_SECONDS))  # not counted: caches are filled
        fastest = load(broker, worker, COMMANDS_PER_SECOND_MAX, min(seconds, WARM_UP_SECONDS))
        print(f"  as fast as it goes: {fastest:.0f} commands/s decided; from now on half as many", flush=True)
        speeds = {}
        for part, hindrance, seconds_of_part in (
            ("nobody else", contextlib.nullcontext(), min(seconds, ALONE_SECONDS_MAX)),
            ("open transaction", open_transaction(glyph), seconds),
            ("dump", slow_dump(glyph), seconds),
        ):
            with hindrance, Reader(worker) as reader:
                speeds[part] = load(broker, worker, fastest / 2, seconds_of_part)
            behind = {name: round(value, 1) for name, value in sorted(reader.behind.items())}
            print(f"  {part}: {speeds[part]:.0f} commands/s decided, behind at the most: {behind} s", flush=True)
            checks.true(f"{part}: models and projections are looked at", {"goals", "agreement", "reliability"} <= behind.keys(), behind)
            late = [(name, value) for name, value in behind.items() if value > BEHIND_MAX + INTERVALS.get(name, 0)]
            checks.all(f"{part}: nobody is more than {BEHIND_MAX:.0f} s behind, beside its own interval", late)
        for part, speed in speeds.items():
            checks.true(f"{part}: as fast as with nobody else", speed >= (1 - SLOWER_MAX) * speeds["nobody else"], speeds)
    wait_until("all is published", glyph.outbox_is_empty, 60)
    counted = glyph.value("SELECT count(*) FROM workflow_events WHERE event_type = 'annotation_submitted'")
    checks.true("the goal counts each annotation", wait_until("goal", lambda: f'"current":{counted}' in worker.get("/api/v1/goals")[1].replace(" ", ""), 30))
    glyph.admin("DROP DATABASE elsewhere")


def load(broker, worker, per_second, seconds):
    """Sends commands at this pace, or as fast as it can, and waits until all are decided; returns how many a second."""
    turns = itertools.count()

    def one_task():
        task, turn = fresh(), next(turns)
        for person in (PEOPLE[turn % len(PEOPLE)], PEOPLE[(turn + 7) % len(PEOPLE)]):
            broker.publish("submission", submission(task, person, {"label": "a"}, workflow="held"))
        return 2

    began = time.monotonic()
    return send_paced(worker, per_second, seconds, one_task) / (time.monotonic() - began)


@contextlib.contextmanager
def open_transaction(glyph):
    """One that has a snapshot and has written, in another database of the same server."""
    connection = psycopg2.connect(with_database(glyph.admin_url, "elsewhere"))
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE held AS SELECT pg_current_xact_id() AS id")
        cursor.execute("SELECT * FROM held")
        yield
    connection.close()


class Slowly(Background):
    """Reads what a program prints, a little at a time."""

    def __init__(self, process):
        super().__init__()
        self.process = process

    def run(self):
        while not self.stopped.wait(DUMP_PAUSE) and self.process.stdout.read(DUMP_BYTES_AT_ONCE):
            pass


@contextlib.contextmanager
def slow_dump(glyph):
    with subprocess.Popen(["pg_dump", "--dbname", glyph.database_url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as dump:
        with Slowly(dump):
            yield
        if dump.poll() is not None:
            raise RuntimeError(f"the dump ended with {dump.returncode} before its part did")
        dump.kill()
