"""Three workers, a RabbitMQ cluster and PostgreSQL with a standby, all broken at once and again under load, and what must hold then.

A schedule drawn from the seed breaks each link in each way (proxy.py), kills, freezes and restarts workers and nodes of the broker, cuts a
node off, and lets the standby take over from a primary that had lost it. Every kind of fault must be seen to have hit, or the run is void.
Then everything is healed, and the invariants (invariants.py) are checked.
"""

import collections
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import psycopg2

import invariants
from glyph_client import Broker, Deployment, derived, execute, fresh, submission, wait_until
from load import DEAD, OPTIONAL, ORDINARY, Commands, Handlers, Journal, Producer, Recorder, command, create_workflows
from proxy import MODES, PASS, STALL, Proxy
from servers import Postgres, RabbitMq, is_stopped

WORKERS = 3
PER_SECOND = 60  # commands sent
WARM_UP_SECONDS = 6
HIT_SECONDS_MAX = 30  # that a fault lasts longer, until it has hit something
AGAIN_SECONDS_MAX = 120  # after which a fault that hit nothing is not tried again
HEAL_SECONDS_MAX = 60  # until throughput is back
OPERATOR_SECONDS = 10  # between two looks for what a queue waits for in vain
DECIDED_SECONDS_MAX = 90  # what was set aside is tried once a minute
DEAD_LETTERING_SECONDS_MAX = 120  # until a queue that has no confirm has had another leader
DRAIN_SECONDS_MAX = 150  # what waits for a task that never comes takes a minute and a half
OPEN_FILES_MORE_MAX = 16
COMMIT_WAITS_SECONDS = (6, 12)  # a worker gives a commit up after ten

Fault = collections.namedtuple("Fault", "at track kind seconds target")

# Each track breaks one thing after the other, all tracks at the same time. Seconds: how long a fault lasts, from and to.
LINKS = {f"link {what}": dict.fromkeys(MODES, (3, 6)) for what in ("database", "broker", "webhook")}
TRACKS = {
    "worker": {"killed": (0.5, 3), "frozen": (15, 18), "restarted": (0, 0), "killed again": (0.5, 3)},
    "node": {"leader killed": (1, 4), "frozen": (11, 15), "restarted": (0, 2), "cut off": (6, 12)},
    "primary": {"lost": COMMIT_WAITS_SECONDS},
    "row": {"locked": (6, 9)},
    "consumer": {"restarted": (0, 0), "restarted again": (0, 0)},
    **LINKS,
}
PAUSES = dict.fromkeys(TRACKS, (1, 4)) | dict.fromkeys(("primary", "row", "consumer"), (6, 24))
FROZEN_SECONDS_MAX = 40  # of a worker, in a run that is long enough


def plan(seed, seconds):
    """The faults of each track by time: all kinds of it in a drawn order, again and again."""
    faults = []
    for track, kinds in TRACKS.items():
        draw = random.Random(f"{seed} {track}")
        at, is_first = draw.uniform(*PAUSES[track]), True
        while at < seconds or is_first:
            for kind in draw.sample(list(kinds), len(kinds)):
                least, most = kinds[kind]
                if (track, kind) == ("worker", "frozen"):
                    most = max(most, min(FROZEN_SECONDS_MAX, seconds / 6))
                lasting = draw.uniform(least, most)
                target = sorted(draw.sample(range(WORKERS), draw.choice([1, 1, 2, 3]))) if track in LINKS else draw.randrange(WORKERS)
                if is_first or at + lasting < seconds:
                    faults.append(Fault(at, track, kind, lasting, target))
                at += lasting + draw.uniform(*PAUSES[track])
            is_first = False
    return faults


def main(checks, seconds, seeds):
    for seed in seeds:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="glyph-chaos."))
        folder.chmod(0o711)  # the servers run as other users
        try:
            run(checks, folder, seed, seconds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def run(checks, folder, seed, seconds):
    faults = plan(seed, seconds)
    print(f"          seed {seed}, {len(faults)} faults in {seconds:g} s, each with its second, how long it lasts and which worker or node:")
    for track in TRACKS:
        shown = (f"{f.at:.0f} {f.kind} {f.seconds:.1f} {f.target}" for f in faults if f.track == track)
        print(f"          {track}: {', '.join(shown)}", flush=True)
    broker, database = RabbitMq(folder), Postgres(folder)
    try:
        broker.launch()
        database.start()
        broker.await_whole()
        with Deployment("chaos", database.url, broker.url) as glyph:
            Chaos(checks, glyph, broker, database, seed, seconds).run(faults)
    finally:
        database.stop()
        broker.stop()


class Chaos:
    def __init__(self, checks, glyph, broker, database, seed, seconds):
        self.checks = checks
        self.glyph = glyph
        self.broker = broker
        self.database = database
        self.seed = seed
        self.seconds = seconds
        self.journal = Journal()
        self.handlers = Handlers(self.journal, seed)
        self.links = {
            "link database": [Proxy("database", lambda: [database.primary.port]) for _ in range(WORKERS)],
            "link broker": [Proxy("broker", broker.ports) for _ in range(WORKERS)],
            "link webhook": [Proxy("webhook", lambda: [self.handlers.port])] * WORKERS,
        }
        self.consumer_link = Proxy("consumer", broker.ports)
        self.hits = collections.Counter()
        self.rested = threading.Event()
        self.down = set()  # workers that are meant to be
        self.surprises = []

    def run(self, faults):
        glyph = self.glyph
        webhooks = self.links["link webhook"][0].port
        create_workflows(glyph, f"http://127.0.0.1:{webhooks}")
        self.workers = [self.start_worker(number, webhooks) for number in range(WORKERS)]
        with Broker(glyph) as broker:
            Recorder.declare(broker)
            Recorder.declare_ledger(broker)
        with self.handlers, Producer(glyph, self.journal, Commands(self.seed, DEAD), PER_SECOND) as producer:
            with Recorder(glyph, self.journal, producer.ask, amqp_url(self.consumer_link)) as recorder:
                self.producer, self.recorder = producer, recorder
                try:
                    self.through(faults)
                except Exception:
                    self.dump()
                    raise
                self.check()

    def start_worker(self, number, webhooks):
        return self.glyph.start_worker(
            DATABASE_URL=f"postgres://postgres@127.0.0.1:{self.links['link database'][number].port}/{self.glyph.name}",
            AMQP_URL=amqp_url(self.links["link broker"][number]),
            GLYPH_WEBHOOK_HOSTS=f"127.0.0.1:{webhooks}", GLYPH_WEBHOOK_ALLOW_PRIVATE="true", GLYPH_WEBHOOK_SECRET="0123456789abcdef",
            GLYPH_DRAIN_SECS="10",
        )

    # --- the course of a run ---

    def through(self, faults):
        time.sleep(WARM_UP_SECONDS)
        usual = self.glyph.decided_per_second(3)
        files = [open_files(worker) for worker in self.workers]
        begun = time.monotonic()
        tracks = [threading.Thread(target=self.follow, args=(track, faults, begun)) for track in TRACKS]
        for track in tracks:
            track.start()
        while any(track.is_alive() for track in tracks):
            # What ends dead takes its time, and must have ended when the faults have.
            if time.monotonic() > begun + max(self.seconds / 8, self.seconds - DRAIN_SECONDS_MAX):
                self.producer.commands.dead = ()
            self.look_after_workers()
            time.sleep(0.2)
        self.heal()
        operator = threading.Thread(target=self.operate)
        operator.start()
        try:
            broken = time.monotonic() - begun
            self.recover(usual)
            self.producer.finish()
            last = invariants.work_off(self.glyph, self.journal, self.producer, DRAIN_SECONDS_MAX)
            wait_until("nothing is on its way from a queue to another", lambda: self.broker.dead_lettering() == set(), DEAD_LETTERING_SECONDS_MAX)
            invariants.work_off(self.glyph, self.journal, self.producer, DRAIN_SECONDS_MAX)
            print(f"          broken for {broken:.0f} s, worked off {time.monotonic() - self.healed:.0f} s later, at last {last}", flush=True)
            self.at_rest(files)
        finally:
            self.rested.set()
            operator.join()

    def follow(self, track, faults, begun):
        for fault in faults:
            is_late = time.monotonic() > begun + self.seconds
            if fault.track != track or (is_late and self.hits[track, fault.kind]):
                continue
            time.sleep(max(0, begun + fault.at - time.monotonic()))
            try:
                self.hits[track, fault.kind] += self.until_it_hits(fault)
            except Exception as error:  # one that the schedule did not mean
                self.surprises.append((fault, repr(error)))

    def until_it_hits(self, fault):
        """While other things are broken too, there may be nothing to hit: then once more."""
        act = self.on_link if fault.track in LINKS else getattr(self, f"on_{fault.track}")
        deadline = time.monotonic() + AGAIN_SECONDS_MAX
        while not (has_hit := bool(act(fault))) and time.monotonic() < deadline:
            print(f"          {fault.track} {fault.kind}: hit nothing, once more", flush=True)
        return has_hit

    def look_after_workers(self):
        """As a supervisor would: a worker that ended by itself is started again, and told of."""
        for worker in self.workers:
            if not worker.lives() and worker not in self.down:
                self.surprises.append((worker.log.name, "ended by itself", worker.process.returncode))
                worker.start()

    def heal(self):
        self.handlers.is_hostile = False
        for link in (link for links in self.links.values() for link in links):
            link.set(PASS)
        self.healed = time.monotonic()

    def operate(self):
        """As docs/operations.md advises: what RabbitMQ does not notice by itself after nodes were away, another leader of the queue does."""
        dead_lettering = set()
        while not self.rested.wait(OPERATOR_SECONDS):
            orphans, before, dead_lettering = self.broker.with_orphans(), dead_lettering, self.broker.dead_lettering() or set()
            for queues, why in ((orphans, "keeps deliveries for a consumer that is gone"), (before & dead_lettering, "has no confirm for what it dead-letters")):
                for queue in queues:
                    print(f"          {queue} {why}: moved to another leader", flush=True)
                    self.broker.move(queue)

    def recover(self, usual):
        """Back to the usual throughput, and everything decided that was sent before."""
        waiting = self.journal.sent(ORDINARY, OPTIONAL)
        rate = wait_until("throughput is back", lambda: self.fast_enough(usual), HEAL_SECONDS_MAX)
        after = time.monotonic() - self.healed
        wait_until("what was sent is decided", lambda: not invariants.undecided(self.glyph, waiting), DECIDED_SECONDS_MAX)
        decided = time.monotonic() - self.healed
        self.checks.true(f"I11: throughput is back within {HEAL_SECONDS_MAX} s, all is decided within {DECIDED_SECONDS_MAX} s", True)
        print(f"          {usual:.0f} commands/s before, {rate:.0f} after {after:.1f} s; all decided after {decided:.1f} s", flush=True)

    def fast_enough(self, usual):
        rate = self.glyph.decided_per_second(3)
        return rate if rate >= 0.8 * usual else None

    def at_rest(self, files):
        """Nothing is left open."""
        now = [open_files(worker) for worker in self.workers]
        self.checks.true("I10: open files and threads are as many as before",
                         all(b <= a + OPEN_FILES_MORE_MAX for before, after in zip(files, now) for a, b in zip(before, after)),
                         f"{files}, then {now}")
        idle = self.glyph.rows(
            """SELECT application_name, state, query FROM pg_stat_activity
               WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '5 s'"""
        )
        self.checks.all("I10: no transaction is left open", idle)
        eventually(lambda: not self.unread())  # the numbers are some seconds old
        if self.unread():
            self.dump()
        self.checks.equal("I10: no message is left in a queue", self.unread(), {})

    def unread(self):
        """Queues of commands, retries and the recorder in which something is left, ready or not acknowledged."""
        read_by_nobody = ("dead", "step-completed", "transition-occurred", Recorder.LEDGER)
        return {name: depth for name, depth in self.broker.depths().items() if any(depth) and not name.endswith(read_by_nobody)}

    def check(self):
        checks = self.checks
        with Broker(self.glyph) as broker:
            ledger = Recorder.read_ledger(broker)
        invariants.check_settled(checks, self.glyph, self.journal, ledger)
        checks.equal("I10: the workers stop in order", [worker.terminate() for worker in self.workers], [0] * WORKERS)
        invariants.check_rebuild(checks, self.glyph)
        checks.equal("the producer and the recorder never failed", [self.producer.failure, self.recorder.failure], [None, None])
        checks.all("no panic in a worker's log", [w.log.name for w in self.workers if "panicked" in w.log.read_text(errors="replace")])
        checks.all("nothing happened that was not meant to", self.surprises)
        missed = [(track, kind) for track, kinds in TRACKS.items() for kind in kinds if not self.hits[track, kind]]
        missed += [way for way in Handlers.WAYS if not self.handlers.ways[way]] + self.producer.commands.due
        missed += [what for what, count in (("sent twice", self.producer.repeated), ("delivered twice", self.recorder.redelivered)) if not count]
        checks.all("I12: every kind of fault has hit", missed)
        sent = self.journal.of("sent")
        tasks = self.glyph.value("SELECT count(*) FROM tasks")
        print(f"          {len(sent)} confirmed, {self.producer.repeated} of them again, {tasks} tasks, {sum(self.hits.values())} faults hit")

    def dump(self):
        """What can be seen of a run that does not go on."""
        depths = self.broker.depths()
        print(f"          {collections.Counter(fate for fate, *_ in self.journal.of('sent'))}, queues {depths}")
        for queue in [name for name, (_, unacknowledged) in depths.items() if unacknowledged]:
            print(f"          consumers of {queue}: {self.broker.consumers_of(queue)}")
        print(f"          dead-lettering {self.broker.dead_lettering()}")
        print(f"          unacknowledged by channel {self.broker.unacknowledged()}")
        for worker in self.workers:
            print(f"          {worker.log.name}: {worker.get('/readyz')}")
            print("          " + ", ".join(line for line in worker.get("/metrics")[1].splitlines() if re.match(r"glyph_.* [^0]", line) and "_bucket" not in line))
            worker.set_log("debug")
        time.sleep(5)
        for worker in self.workers:
            worker.set_log("info")
        undecided = {id for id, in invariants.undecided(self.glyph, self.journal.sent(ORDINARY, OPTIONAL))}
        print(f"          undecided: {[entry for entry in self.journal.of('sent') if entry[1] in undecided]}, at {time.time()}")
        for row in self.glyph.rows("SELECT o::text FROM outbox o ORDER BY position LIMIT 10"):
            print(f"          outbox {row}")
        for task, *_ in invariants.unfinished_tasks(self.glyph)[:1]:
            print(self.glyph.glyph("task", "explain", task))
            print(self.glyph.glyph("task", "history", task))
            for row in self.glyph.rows("SELECT command_id::text, type, outcome, reason, detail, decided_at::text FROM commands WHERE task_id = %s", [task]):
                print(f"          {row}")
            mine = {derived(task, who) for who in ("ann", "bob", "cem", "dead")}
            print(f"          confirmed to the producer: {[entry for entry in self.journal.of('sent') if entry[1] in mine]}")
        for row in self.glyph.rows("SELECT pid, state, wait_event, (clock_timestamp() - xact_start)::text, (clock_timestamp() - state_change)::text, left(query, 80) FROM pg_stat_activity WHERE datname = current_database()"):
            print(f"          {row}", flush=True)

    # --- faults: each returns whether it was seen to hit ---

    def on_link(self, fault):
        targets = {id(link): link for link in (self.links[fault.track][worker] for worker in fault.target)}.values()
        before = sum(link.hits[fault.kind] for link in targets)

        def has_hit():
            return sum(link.hits[fault.kind] for link in targets) > before

        for link in targets:
            link.set(fault.kind)
        try:
            time.sleep(fault.seconds)
            return eventually(has_hit)
        finally:
            for link in targets:
                link.set(PASS)

    def on_worker(self, fault):
        worker = self.workers[fault.target]
        if fault.kind == "frozen":
            worker.process.send_signal(signal.SIGSTOP)
            time.sleep(fault.seconds)
            was = is_stopped(worker.process.pid)
            worker.process.send_signal(signal.SIGCONT)
            return was
        self.down.add(worker)
        if fault.kind == "restarted":
            eventually(lambda: worker.get("/livez")[0])  # it listens, so it heeds signals
            code = worker.terminate()
            # Between broken links a drain may run out of its time, and says so.
            has_hit = code == 0 or "the drain was not finished in time" in worker.log.read_text(errors="replace").rsplit(" draining ", 1)[-1]
            if not has_hit:
                self.surprises.append((worker.log.name, "asked to stop", code))
        else:
            worker.kill()
            has_hit = worker.process.returncode == -signal.SIGKILL
        time.sleep(fault.seconds)
        worker.start()
        self.down.discard(worker)
        return has_hit

    def on_node(self, fault):
        broker, node = self.broker, self.broker.nodes[fault.target]
        queue = f"{self.glyph.prefix}.submission"
        if fault.kind == "leader killed":
            node = broker.leader_of(queue)
            node.kill()
            has_hit = eventually(lambda: broker.leader_of(queue) is not node)
            time.sleep(fault.seconds)
            node.start()
        elif fault.kind == "frozen":
            node.pause()
            time.sleep(fault.seconds)
            has_hit = node.is_paused()
            node.resume()
        elif fault.kind == "restarted":
            node.stop(signal.SIGTERM)
            has_hit = not node.lives()
            time.sleep(fault.seconds)
            node.start()
        else:
            others = [other for other in broker.nodes if other is not node]
            broker.isolate(node)
            has_hit = eventually(lambda: all(broker.sees(other) == 2 for other in others))
            time.sleep(fault.seconds)
            broker.reunite(node)
        broker.await_whole()
        return has_hit

    def on_primary(self, fault):
        """The standby is lost, so commits wait; then the primary is lost, and the standby must have all that was acknowledged."""
        database = self.database
        url = database.direct_url(database.primary)
        database.replication.set(STALL)
        time.sleep(fault.seconds)
        has_hit = eventually(lambda: execute(url, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
        database.fail_over()
        database.replication.drop()
        database.replication.set(PASS)
        database.add_standby()
        return has_hit

    def on_row(self, fault):
        """Somebody holds the row of a task while its commands come. Where the primary is lost meanwhile, so is the lock."""
        task = fresh()
        first, *more = (self.submission(task, person) for person in ("ann", "bob", "cem"))
        sent = {each.id for each in more}
        self.producer.ask(first)
        blocker = eventually(lambda: not invariants.undecided(self.glyph, [first.id]) and self.lock(task))
        # Whatever has been hit, the task must come to its end.
        for each in more:
            self.producer.ask(each)
        if not blocker:
            return False
        with contextlib.closing(blocker), contextlib.suppress(psycopg2.Error):
            if eventually(lambda: sent <= self.journal.sent(ORDINARY)):
                time.sleep(fault.seconds)
                blocker.cursor().execute("SELECT")  # it still holds the row
                return len(invariants.undecided(self.glyph, sent)) == len(sent)
        return False

    def lock(self, task):
        connection = psycopg2.connect(self.glyph.database_url)
        connection.cursor().execute("SELECT FROM tasks WHERE task_id = %s FOR UPDATE", [task])
        return connection

    def submission(self, task, person):
        return command(ORDINARY, submission(task, derived("person", person), {"label": "a"}, derived(task, person), workflow="labels"))

    def on_consumer(self, _fault):
        """Instead of an acknowledgement the recorder loses its connection, so the messages come again."""
        before = self.recorder.redelivered
        self.recorder.instead = self.consumer_link.drop
        return eventually(lambda: self.recorder.redelivered > before)


def amqp_url(link):
    return f"amqp://guest:guest@127.0.0.1:{link.port}/%2f"


def eventually(condition):
    """Waits for something to hit; while a server is away it has not."""
    deadline = time.monotonic() + HIT_SECONDS_MAX
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg2.Error, RuntimeError, subprocess.TimeoutExpired):
            if held := condition():
                return held
        time.sleep(0.1)
    return False


def open_files(worker):
    """How many files and threads a process has open."""
    return tuple(len(os.listdir(f"/proc/{worker.process.pid}/{what}")) for what in ("fd", "task"))
