"""What must hold of a deployment after whatever happened to it, asked of its tables, its queues and its clients' record."""

import json
import time

from glyph_client import Broker
from load import BAD, LOST, OPTIONAL, ORDINARY, REACHED, Recorder

LATE_SECONDS = 5  # after which a timer that is due is late
LOOK_SECONDS = 0.5
ARRIVE_SECONDS_MAX = 30
QUEUES = ("submission", "advance", "control", "retry.1s", "retry.4s", "retry.16s", "retry.60s", Recorder.QUEUE)


def undecided(glyph, ids):
    return glyph.rows("SELECT id::text FROM unnest(%s::uuid[]) AS id WHERE id NOT IN (SELECT command_id FROM commands)", [list(ids)])


def unfinished_tasks(glyph):
    return glyph.rows("SELECT task_id::text, workflow, status, current_steps FROM tasks WHERE status <> 'completed'")


def left(glyph, journal):
    """What is not worked off yet."""
    with Broker(glyph) as broker:
        waiting = {queue: depth for queue in QUEUES if (depth := broker.depth(broker.named(queue)))}
    return (
        undecided(glyph, journal.sent(ORDINARY, OPTIONAL))[:3]
        or unfinished_tasks(glyph)[:3]
        or (not glyph.outbox_is_empty() and "messages in the outbox")
        or glyph.rows("SELECT goal, action, attempts FROM goal_actions WHERE status = 'waiting'")
        or waiting
    )


def work_off(glyph, journal, producer, seconds):
    """Waits until nothing is left, and still nothing a moment later: an answer may be on its way. Returns what was left last."""
    deadline = time.monotonic() + seconds
    looks, last = 0, None
    while looks < 2:
        found = (producer and not producer.is_idle() and "commands to send") or left(glyph, journal)
        looks, last = (0, found) if found else (looks + 1, last)
        if time.monotonic() > deadline:
            raise TimeoutError(f"not worked off within {seconds} s: {last}")
        time.sleep(LOOK_SECONDS)
    return last


def published(glyph):
    """The messages of the log: id, task or other subject, sequence, type."""
    lines = map(json.loads, glyph.glyph("events", "tail", "--from", "start", "--as", "messages").splitlines())
    messages = (line["message"] for line in lines)
    return {m["id"]: (m["subject"], m.get("sequence"), m["type"]) for m in messages}


def check_anytime(checks, glyph):
    """Holds also while everything is at work and broken."""
    checks.all("I3: versions from 1 without gaps, tasks at their last", glyph.version_faults())
    twice = glyph.rows(
        """SELECT stream_id::text, event_data ->> 'step_id', event_data ->> 'visit', count(*) FROM workflow_events
           WHERE event_type = 'step_completed' GROUP BY 1, 2, 3 HAVING count(*) > 1"""
    )
    checks.all("I5: a visit of a step is completed once", twice)


def check_settled(checks, glyph, journal, ledger=None):
    """Holds once everything has been worked off. `ledger`: the messages of a queue that nobody has read, in its order."""
    check_commands(checks, glyph, journal)
    check_anytime(checks, glyph)
    check_messages(checks, glyph, journal, ledger)
    check_handlers(checks, glyph, journal)
    check_goals(checks, glyph, journal)
    late = glyph.rows(f"SELECT task_id::text, kind, due_at FROM timers WHERE due_at < clock_timestamp() - interval '{LATE_SECONDS} s'")
    checks.all("I9: no timer is late", late)
    checks.all("I9: every task has ended", unfinished_tasks(glyph))


def check_commands(checks, glyph, journal):
    outcomes = dict(glyph.rows("SELECT command_id::text, outcome FROM commands"))
    ordinary, optional, lost, bad = (journal.sent(fate) for fate in (ORDINARY, OPTIONAL, LOST, BAD))
    checks.all(f"I1: {len(ordinary)} confirmed commands are applied", [id for id in ordinary if outcomes.get(id) != "applied"])
    checks.all(f"I1: {len(optional)} have an outcome that others decide", [id for id in optional if id not in outcomes])
    checks.all("I1: what is dead has no other outcome", [id for id in lost | bad if id in outcomes])
    listed = json.loads(glyph.glyph("--output", "json", "dead-letter", "list", "--limit", "1000000"))["dead_letters"]
    letters = {letter["properties"]["message_id"]: letter["reason"] for letter in listed}
    expected = dict.fromkeys(lost, "task_not_found") | dict.fromkeys(bad, "malformed")
    differing = {id: (letters.get(id), expected.get(id)) for id in letters.keys() | expected.keys() if letters.get(id) != expected.get(id)}
    checks.all(f"I2: {len(bad)} bad commands and {len(lost)} without a task are dead, nothing else", list(differing.items()))


def first_of(messages):
    """Each message once, where it came first: id, then subject, sequence and type."""
    first = {}
    for id, *rest in messages:
        first.setdefault(id, tuple(rest))
    return first


def disorder(first):
    """The messages that came behind later ones of their task."""
    newest, behind = {}, []
    for subject, sequence, kind in first.values():
        if sequence and sequence <= newest.get(subject, ""):
            behind.append((subject, sequence, newest[subject], kind))
        newest[subject] = max(sequence or "", newest.get(subject, ""))
    return behind


def check_messages(checks, glyph, journal, ledger=None):
    """With recorder and workers still at work: the last message of the log may be on its way, or wait in the outbox."""
    log = published(glyph)
    deadline = time.monotonic() + ARRIVE_SECONDS_MAX
    while True:
        received = journal.of("received")
        first = first_of(received)
        if log.keys() <= first.keys() or time.monotonic() > deadline:
            break
        time.sleep(LOOK_SECONDS)
    checks.all(f"I6: {len(log)} messages arrived", [(id, log[id]) for id in log.keys() - first.keys()])
    # Progress of goals may be told between reading the log and looking at what arrived.
    later = published(glyph) if first.keys() - log.keys() else log
    checks.all("I6: and no other", [(id, first[id]) for id in first.keys() - later.keys()])
    if ledger is None:
        checks.all("I6: those of a task came in order", disorder(first))
    else:
        # A cluster that loses a node delivers what it has returned to a queue after what follows it there.
        checks.all("I6: those of a task stand in their queue in order", disorder(first_of(ledger)))
        print(f"          {len(disorder(first))} came behind later ones of their task", flush=True)
    print(f"          {len(received) - len(first)} came again", flush=True)


def check_handlers(checks, glyph, journal):
    calls = journal.of("call")
    keys_of, calls_of = {}, {}
    for key, _, *call in calls:
        keys_of.setdefault(tuple(call), set()).add(key)
        calls_of.setdefault(key, set()).add(tuple(call))
    checks.all(f"I7: {len(keys_of)} effects, one for each key", [each for each in (*keys_of.items(), *calls_of.items()) if len(each[1]) > 1])
    strange = glyph.rows(
        """SELECT stream_id::text, event_data #> '{result,value}' FROM workflow_events
           WHERE event_type = 'step_completed' AND event_data ->> 'step_id' IN ('judge', 'transcribe')
             AND event_data #>> '{result,value,of}' IS DISTINCT FROM stream_id::text"""
    )
    checks.all("I7: each step has the answer to its own call", strange)


def check_goals(checks, glyph, journal):
    recount = glyph.value("SELECT count(*) FROM tasks WHERE workflow = 'labels' AND status = 'completed'")
    ((count, reached),) = glyph.rows("SELECT count, completed_at IS NOT NULL FROM goals WHERE goal = 'reached'")
    checks.equal("I8: the goal counts what SQL counts", count, recount)
    checks.equal(f"I8: it is reached with {REACHED}", reached, recount >= REACHED)
    actions = glyph.rows("SELECT action, status FROM goal_actions WHERE goal = 'reached'")
    checks.equal("I8: its action is done", [status for _, status in actions], ["done"] * reached)
    keys = {key for key, path, *_ in journal.of("call") if path == "/goal"}
    told = [1 for _, _, kind in published(glyph).values() if kind.startswith("dev.glyph.goal.completed.")]
    checks.equal("I8: it was told and called once", (len(told), len(keys)), (reached, reached))


def check_rebuild(checks, glyph, program=None):
    """Makes all that is derived anew, and compares."""
    goal = "SELECT count, completed_at, epoch FROM goals WHERE goal = 'reached'"
    before = glyph.rows(goal)
    report = json.loads(glyph.glyph("--output", "json", "rebuild", program=program))
    changed = {key: value for key, value in report.items() if key.endswith("_changed") and value}
    checks.equal(f"I4: {report['tasks']} tasks, replayed from {report['events']} events, are as they were stored", changed, {})
    checks.equal("I4: and so is the goal", glyph.rows(goal), before)
