"""Whether a command costs the same where much is stored: two deployments in turn, one of them with many events.

Not in the daily run: it takes minutes and gigabytes, and no number decides a check. Use a release build (`GLYPH_BIN`), and give PostgreSQL
the settings that docs/performance.md advises.
"""

import json
import secrets
import statistics
import tempfile
import time
import uuid

from glyph_client import Broker, Deployment, fresh, submission, wait_until

PEOPLE = 10
TASKS = 4_000  # of a round
ROUNDS = 4
WARM_UP = 4  # rounds that are not counted
ROUND_SECONDS_MAX = 600
STORED_TASKS_AT_ONCE = 100_000
EVENTS_OF_A_TASK = 10

WORKFLOW = """
workflow:
  id: growth
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 10 }, consensus: { field: label } }
"""

# What draws an id of each version; one of version 7 begins with the milliseconds.
DRAWN = {
    4: "gen_random_uuid()",
    7: """(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 3)
           || '8' || substr(md5(random()::text), 1, 15))::uuid""",
}
STORE = f"""
    WITH done AS MATERIALIZED (SELECT {{id}} AS id, clock_timestamp() AS at FROM generate_series(1, %(tasks)s)),
    revision AS (SELECT id, workflow AS name, revision AS number FROM workflows LIMIT 1),
    batch AS (INSERT INTO log_batches (has_events) VALUES (true) RETURNING batch),
    heads AS (
        INSERT INTO tasks (task_id, version, workflow, revision, workflow_id, status, started_at, updated_at)
        SELECT done.id, {EVENTS_OF_A_TASK}, name, number, revision.id, 'completed', at, at FROM done, revision),
    events AS (
        INSERT INTO stored_events (stream_id, version, event_id, event_type, event_data, occurred_at, command_id, schema_version, gold, batch)
        SELECT done.id, n, gen_random_uuid(), 'annotation_submitted',
               jsonb_build_object('visit', 1, 'step_id', 'annotate', 'annotation', jsonb_build_object(
                   'data', jsonb_build_object('label', 'positive'), 'user_id', gen_random_uuid(), 'annotation_id', gen_random_uuid()))::text,
               at, gen_random_uuid(), 1, false, batch
        FROM done, batch, generate_series(1, {EVENTS_OF_A_TASK}) AS n)
    INSERT INTO commands (command_id, task_id, type, outcome, result, content_hash, decided_at)
    SELECT {{id}}, done.id, 'submission', 'applied', '{{{{"status": "waiting"}}}}', sha256(done.id::text::bytea), at
    FROM done, generate_series(1, {EVENTS_OF_A_TASK})"""
# They were made for no projection to read: those that follow the log go on behind it.
READ = "UPDATE projections SET (entry, position) = (SELECT max(entry), 9223372036854775807 FROM log_entries) RETURNING name"
BEHIND = "SELECT name FROM projections WHERE entry < (SELECT max(entry) FROM log_entries WHERE has_events)"
FOLLOWING = ["agreement", "flow", "gold", "labels"]


def fresh_in_order():
    """A UUID of version 7: it begins with the time."""
    milliseconds = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)))


def commands(new_id):
    """Everybody's work on every task, person by person."""
    tasks, people = [new_id() for _ in range(TASKS)], [fresh() for _ in range(PEOPLE)]
    for person, user in enumerate(people):
        for task in tasks:
            yield submission(task, user, {"label": ("positive", "negative")[person % 3 == 0]}, new_id(), workflow="growth")


def commands_a_second(glyph, new_id):
    """Enqueues everything, then starts a worker and measures until all is decided."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(command) + "\n" for command in commands(new_id))
        file.flush()
        glyph.glyph("publish", file.name)
    begun = glyph.value("SELECT clock_timestamp()")
    worker = glyph.start_worker()
    wait_until("everything decided", lambda: worker.total("glyph_commands_total") >= TASKS * PEOPLE, ROUND_SECONDS_MAX)
    wait_until("everything published", glyph.outbox_is_empty, ROUND_SECONDS_MAX)
    worker.terminate()
    seconds = glyph.value(
        "SELECT extract(epoch FROM max(decided_at) - min(decided_at))::float8 FROM commands WHERE decided_at >= %s", [begun]
    )
    return TASKS * PEOPLE / seconds


def measured(glyph, new_id):
    """Commands a second, and of each command the bytes of the server's log: in all, and those that were images of whole pages."""
    written = "SELECT wal_bytes::float8, wal_fpi FROM pg_stat_wal"
    [(bytes_before, pages_before)] = glyph.rows(written)
    speed = commands_a_second(glyph, new_id)
    [(bytes_after, pages_after)] = glyph.rows(written)
    return speed, (bytes_after - bytes_before) / TASKS / PEOPLE, (pages_after - pages_before) / TASKS / PEOPLE


def follow(glyph):
    """Does one task, until every projection has read it. A projection that has read nothing yet has no row."""
    worker = glyph.start_worker()
    task = fresh()
    with Broker(glyph) as broker:
        for user in [fresh() for _ in range(PEOPLE)]:
            broker.publish("submission", submission(task, user, {"label": "positive"}, workflow="growth"))
    begun = "SELECT count(*) FROM projections WHERE name = ANY (%s)"
    wait_until("every projection has begun", lambda: glyph.value(begun, [FOLLOWING]) == len(FOLLOWING), 60)
    worker.terminate()


def store(glyph, events, version):
    """What ended tasks leave."""
    for _ in range(max(events // EVENTS_OF_A_TASK // STORED_TASKS_AT_ONCE, 1)):
        glyph.rows(STORE.format(id=DRAWN[version]), {"tasks": STORED_TASKS_AT_ONCE})
    moved = sorted(name for (name,) in glyph.rows(READ))
    assert moved == FOLLOWING, f"of the projections {FOLLOWING} only {moved} have begun: the others would read what was stored"
    # In a store that grew with time that has been done on the way; here it would be done while others are measured.
    glyph.rows("VACUUM ANALYZE")
    # So has a checkpoint, after which the first change of each page is written whole; and what is written to is in memory by then.
    glyph.rows("CHECKPOINT")
    glyph.rows("CREATE EXTENSION pg_prewarm")
    glyph.rows("SELECT pg_prewarm(indexrelid) FROM pg_index WHERE indrelid IN ('stored_events'::regclass, 'commands'::regclass, 'tasks'::regclass)")


def main(checks, events, version):
    new_id = {4: fresh, 7: fresh_in_order}[version]
    with Deployment("growth-empty") as empty, Deployment("growth-full") as full:
        for glyph in (empty, full):
            glyph.create_workflow(WORKFLOW)
            follow(glyph)
        store(full, events, version)
        # Whoever still read what is stored would be measured, too.
        checks.equal("every projection is at the end of the log", full.rows(BEHIND), [])
        rounds = [(measured(empty, new_id), measured(full, new_id)) for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
        stored = full.value("SELECT count(*) FROM stored_events")
        size = full.value("SELECT pg_size_pretty(pg_database_size(current_database()))")
        print(f"          ids of tasks and commands are of version {version}")
        for name, results in (("an empty store", [one for one, _ in rounds]), (f"{stored:,} events ({size})", [one for _, one in rounds])):
            shown = ", ".join(f"{speed:,.0f} ({in_all:,.0f} B, {pages:.2f} pages)" for speed, in_all, pages in results)
            print(f"          {name}: commands/s (log of the server a command, whole pages of it) {shown}")
        ratios = [with_events[0] / without[0] for without, with_events in rounds]
        print(f"          ratios in turn {', '.join(f'{ratio:.2f}' for ratio in ratios)}, median {statistics.median(ratios):.2f}", flush=True)
        for glyph in (empty, full):
            checks.equal("no version is missing", glyph.version_faults(), [])
