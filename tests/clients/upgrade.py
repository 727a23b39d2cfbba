"""An earlier build and this one on one schema, side by side under load: rolled forward, back, and forward again.

`--previous PATH` names the binary of the earlier build. Nothing is lost, nothing is dead, each build reads all that the other one stored,
and makes the same messages of it.
"""

import invariants
from glyph_client import Broker, Deployment, binary, wait_until
from load import Commands, Handlers, Journal, Producer, Recorder, create_workflows

WORKERS = 2
PER_SECOND = 30
STEP_COMMANDS = 150  # decided between two steps of a roll-out
STEP_SECONDS_MAX = 60
DRAIN_SECONDS_MAX = 120
SECRET = "not-a-secret-in-here"
FAULTS_IN_LOG = (" ERROR ", "panicked")


def main(checks, previous):
    if not previous:
        print("  left out: no binary of an earlier build (--previous PATH)")
        return
    journal = Journal()
    with Deployment("upgrade", program=previous) as glyph, Handlers(journal, seed=1) as handlers:
        create_workflows(glyph, f"http://127.0.0.1:{handlers.port}")
        webhooks = {"GLYPH_WEBHOOK_HOSTS": f"127.0.0.1:{handlers.port}", "GLYPH_WEBHOOK_ALLOW_PRIVATE": "true", "GLYPH_WEBHOOK_SECRET": SECRET}
        workers = [glyph.start_worker(**webhooks) for _ in range(WORKERS)]
        with Broker(glyph) as broker:
            Recorder.declare(broker)
        with Producer(glyph, journal, Commands(1, ()), PER_SECOND) as producer, Recorder(glyph, journal, producer.ask):
            await_more(glyph)
            glyph.glyph("migrate", program=binary())
            await_more(glyph)
            for program in (binary(), previous, binary()):
                for worker in workers:
                    replace(checks, glyph, worker, program)
            handlers.is_hostile = False
            producer.finish()
            invariants.work_off(glyph, journal, producer, DRAIN_SECONDS_MAX)
            invariants.check_settled(checks, glyph, journal)
            checks.equal("the workers stop in order", [worker.terminate() for worker in workers], [0] * WORKERS)
        checks.equal("both builds make the same messages of the log", *(messages(glyph, program) for program in (previous, binary())))
        for program in (previous, binary()):
            invariants.check_rebuild(checks, glyph, program)
        said = [line for worker in workers for line in worker.log.read_text(errors="replace").splitlines()]
        checks.all("no error in the logs", [line for line in said if any(fault in line for fault in FAULTS_IN_LOG)])


def replace(checks, glyph, worker, program):
    """One worker drains, and one of the other build takes its place."""
    checks.equal("a worker drains", worker.terminate(), 0)
    worker.program = program
    worker.start()
    worker.wait_until_ready()
    await_more(glyph)


def await_more(glyph):
    count = "SELECT count(*) FROM commands"
    goal = glyph.value(count) + STEP_COMMANDS
    wait_until(f"{goal} commands decided", lambda: glyph.value(count) >= goal, STEP_SECONDS_MAX)


def messages(glyph, program):
    return glyph.glyph("events", "tail", "--from", "start", "--as", "messages", program=program)
