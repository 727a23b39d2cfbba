"""Work that is too big, too heavy, blocked or not meant to move, all at once: everybody else is served meanwhile.

While they are at it, a producer asks for one small decision after the other. How long these take is printed; what is checked is that each is
answered, that the worker stays ready and within its memory, that what is blocked is set aside and decided once it is free, and that nothing
is dead.
"""

import random
import time

import psycopg2

from glyph_client import Background, Broker, Deployment, fresh, submission, wait_until

BIG = 600  # submissions
BIG_BYTES = 200_000
LONG_LIST = 140_000  # elements, about a megabyte
BOXES = 640  # of each of 25 people, who overlap
TIMERS = 200_000  # overdue, of an archived workflow
PROBES_PER_SECOND = 10
SECONDS = 30
DRAIN_SECONDS_MAX = 240
MEMORY_MIB_MAX = 512

WORKFLOWS = """
workflow: { id: one, steps: [ { id: annotate, type: annotation, completion: { type: annotation_count, count: 1 } } ] }
---
workflow:
  id: lists
  steps: [ { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 }, consensus: { field: label } } ]
---
workflow:
  id: boxes
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 25 }
      consensus: { metric: box_iou, field: label, threshold: 0.5 }
---
workflow: { id: asleep, steps: [ { id: annotate, type: annotation, completion: { type: annotation_count, count: 1 } } ] }
"""


class Probes(Background):
    """A producer that asks for a decision, waits for its reply, and asks again."""

    def __init__(self, glyph):
        super().__init__()
        self.glyph = glyph
        self.seconds = []
        self.failure = None

    def run(self):
        try:
            with Broker(self.glyph) as broker:
                replies = broker.own_queue("probes")
                inbox = broker.subscribe(replies)
                while not self.stopped.is_set():
                    command = submission(fresh(), fresh(), {"label": "1"}, workflow="one")
                    asked = time.monotonic()
                    broker.publish("submission", command, reply_to=replies, correlation_id=command["command_id"])
                    inbox.next(lambda message: message.properties.correlation_id == command["command_id"], 120)
                    self.seconds.append(time.monotonic() - asked)
                    self.stopped.wait(1 / PROBES_PER_SECOND)
        except Exception as error:  # told by the check, with what was measured before
            self.failure = repr(error)

    def quantile(self, share):
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def box(draw):
    x, y = draw.randint(0, 200), draw.randint(0, 200)
    return {"x1": x, "y1": y, "x2": x + draw.randint(300, 999), "y2": y + draw.randint(300, 999)}


def peak_mib(worker):
    with open(f"/proc/{worker.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def main(checks):
    with Deployment("siege") as glyph:
        for workflow in WORKFLOWS.split("---\n"):
            glyph.create_workflow(workflow)
        worker = glyph.start_worker()
        glyph.glyph("workflow", "archive", "asleep")
        blocked, long, heavy = fresh(), fresh(), fresh()
        with Broker(glyph) as broker:
            broker.publish("start", {"type": "start", "command_id": fresh(), "task_id": blocked, "workflow": "one"})
            wait_until("a task to block", lambda: glyph.rows("SELECT 1 FROM tasks WHERE task_id = %s", [blocked]), 60)
        glyph.rows(
            f"""INSERT INTO timers (id, task_id, step_id, visit, kind, n, due_at, workflow)
                SELECT gen_random_uuid(), gen_random_uuid(), 'annotate', 1, 'inactivity', 0,
                       clock_timestamp() - interval '1 day', 'asleep'
                FROM generate_series(1, {TIMERS})"""
        )
        blocker = psycopg2.connect(glyph.database_url)
        blocker.cursor().execute("SELECT FROM tasks WHERE task_id = %s FOR UPDATE", [blocked])
        draw = random.Random(3)
        hostile = [submission(blocked, fresh(), {"label": "1"})]
        hostile += [submission(long, fresh(), {"label": ["a", "b"]}, workflow="lists")]
        hostile += [submission(long, fresh(), {"label": list(range(LONG_LIST))}, workflow="lists")]
        hostile += [submission(heavy, fresh(), {"label": [box(draw) for _ in range(BOXES)]}, workflow="boxes") for _ in range(25)]
        hostile += [submission(fresh(), fresh(), {"label": "x" * BIG_BYTES}, workflow="one") for _ in range(BIG)]
        ids = [command["command_id"] for command in hostile]

        def undecided():
            return glyph.rows("SELECT id FROM unnest(%s::uuid[]) AS id WHERE id NOT IN (SELECT command_id FROM commands)", [ids])

        unready = 0
        with Probes(glyph) as probes, Broker(glyph) as broker:
            begun = time.monotonic()
            for index, command in enumerate(hostile):
                # At a pace: what lies behind 120 MB in a queue waits for them, whatever a worker does.
                while time.monotonic() < begun + index * SECONDS / len(hostile):
                    time.sleep(0.01)
                broker.publish("submission", command)
                if index % 10 == 0:
                    unready += worker.get("/livez")[0] != 200 or not worker.is_ready()
            wait_until("only the blocked command waits", lambda: len(undecided()) <= 1, DRAIN_SECONDS_MAX)
        checks.equal("the one command that waits is the blocked one", undecided(), [(ids[0],)])
        checks.true("the producer was answered throughout", probes.failure is None, probes.failure)
        checks.equal("the worker was alive and ready throughout", unready, 0)
        print(
            f"          {len(probes.seconds)} small commands meanwhile: p50 {probes.quantile(0.5):.3f} s, "
            f"p99 {probes.quantile(0.99):.3f} s, longest {max(probes.seconds):.3f} s; the worker held {peak_mib(worker):.0f} MiB",
            flush=True,
        )
        checks.true(f"it held at most {MEMORY_MIB_MAX} MiB", peak_mib(worker) <= MEMORY_MIB_MAX, f"{peak_mib(worker):.0f} MiB")

        def shown():  # not in the moment in which it is tried again
            aside = glyph.glyph("--output", "json", "dead-letter", "list", "--set-aside")
            return ids[0] in aside and "blocked" in aside

        wait_until("the blocked command is shown as set aside, with its reason", shown, 90)
        blocker.close()
        wait_until("the blocked command is decided", lambda: not undecided(), 120)
        checks.true("it is decided once the row is free", True)
        checks.equal("nothing is dead", '"dead_letters": []' in glyph.glyph("--output", "json", "dead-letter", "list"), True)
        checks.equal("no version is missing", glyph.version_faults(), [])
