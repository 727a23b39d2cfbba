"""What it costs that somebody looks: processor time of the worker and of PostgreSQL for a command, with and without a page *Now* that is open.

Not in the daily run: it takes minutes, and asks for a quiet machine. Rounds of the same paced load alternate between the two, on a PostgreSQL of
the check's own, so that nobody else's work is counted. Many short rounds tell more than few long ones: what a command costs drifts. Use a
release build (`GLYPH_BIN`).
"""

import os
import pathlib
import statistics
import tempfile
import urllib.request

from glyph_client import Background, Broker, Deployment, fresh, send_paced, submission, wait_until
from outage import services

WORKFLOW = """
workflow:
  id: looked-at
  steps:
    - { id: annotate, type: annotation, field: label, completion: { type: annotation_count, count: 2 }, consensus: { threshold: 1.0 } }
    - { id: check, type: review }
  transitions:
    - { from: annotate, to: check }
    - { from: check, to: _complete }
"""
COMMANDS_PER_SECOND = 250
# Tasks that wait while others go through, as in a deployment that is at work.
WAITING = 3_000
ALOUD_MAX = 1.03
TICKS = os.sysconf("SC_CLK_TCK")


class Looker(Background):
    """What a page does that shows *Now*: it follows the stream of the status."""

    def __init__(self, worker):
        super().__init__()
        self.worker = worker
        self.seen = 0

    def run(self):
        while not self.stopped.is_set():
            with urllib.request.urlopen(f"http://127.0.0.1:{self.worker.port}/ui/events", timeout=30) as stream:
                for line in stream:
                    self.seen += line.startswith(b"event: status")
                    if self.stopped.is_set():
                        return


def main(checks, rounds, seconds):
    with tempfile.TemporaryDirectory() as folder:
        url = services("start", folder, "postgres")["DATABASE_URL"]
        try:
            with Deployment("looking", database_url=url) as glyph:
                play(checks, glyph, pathlib.Path(folder), rounds, seconds)
        finally:
            services("stop", folder, "postgres")


def play(checks, glyph, folder, rounds, seconds):
    glyph.create_workflow(WORKFLOW)
    worker = glyph.start_worker()
    postmaster = postmaster_of(folder)
    with Broker(glyph) as broker:
        for _ in range(WAITING):
            broker.publish("submission", submission(fresh(), fresh(), {"label": "fine"}, workflow="looked-at"))
        load(glyph, broker, worker, seconds)  # not counted: caches are filled, tables grow
        costs = {False: [], True: []}
        for number in range(rounds):
            for looked_at in ((False, True), (True, False))[number % 2]:
                cost, parts = one_round(glyph, broker, worker, postmaster, seconds, looked_at)
                costs[looked_at].append(cost)
                how = "with *Now* open" if looked_at else "without"
                print(f"  {how:<16} {cost * 1e6:7.1f} µs a command (worker {parts[0] * 1e6:.1f}, PostgreSQL {parts[1] * 1e6:.1f})", flush=True)
    pairs = [looked / alone for alone, looked in zip(costs[False], costs[True])]
    ratio = statistics.median(pairs)
    error = statistics.pstdev(pairs) / max(rounds - 1, 1) ** 0.5
    print(f"  ratio, the median of {rounds} pairs: {ratio:.3f} (mean {statistics.mean(pairs):.3f} ± {error:.3f})", flush=True)
    checks.true(f"who looks makes a command at most {(ALOUD_MAX - 1) * 100:.0f} % dearer", ratio <= ALOUD_MAX, f"{ratio:.3f}")


def one_round(glyph, broker, worker, postmaster, seconds, looked_at):
    if looked_at:
        with Looker(worker) as looker:
            wait_until("the page shows something", lambda: looker.seen, 15)
            result = cost_of(glyph, broker, worker, postmaster, seconds)
        return result
    return cost_of(glyph, broker, worker, postmaster, seconds)


def cost_of(glyph, broker, worker, postmaster, seconds):
    before = used(worker, postmaster)
    sent = load(glyph, broker, worker, seconds)
    parts = [(after - earlier) / sent for earlier, after in zip(before, used(worker, postmaster))]
    return sum(parts), parts


def load(glyph, broker, worker, seconds):
    """Sends commands at their pace and waits until all are decided; returns how many."""
    def one_task():
        task, ann, bob = fresh(), fresh(), fresh()
        for person in (ann, bob):
            broker.publish("submission", submission(task, person, {"label": "fine"}, workflow="looked-at"))
        broker.publish("submission", {**submission(task, fresh(), None), "annotation": {"user_id": fresh(), "decision": "approve"}})
        return 3

    sent = send_paced(worker, COMMANDS_PER_SECOND, seconds, one_task)
    wait_until("all is published", glyph.outbox_is_empty, 60)
    return sent


def used(worker, postmaster):
    """Processor seconds of the worker, and of a PostgreSQL with all its processes."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            children[int(stat.parent.name)] = read(stat)
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    server = [own for parent, own, _ in children.values() if parent == postmaster]
    _, own, ended = children[postmaster]
    return children[worker.process.pid][1], sum(server) + own + ended


def read(stat):
    """Parent, processor seconds, and those of children that have ended."""
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS, (int(fields[13]) + int(fields[14])) / TICKS


def postmaster_of(folder):
    found = list(folder.rglob("postmaster.pid"))
    return int(found[0].read_text().splitlines()[0])
