-- Tables of the store in SQLite: the same as in Postgres, in the types that SQLite has.
--
-- Ids are UUIDs as lower-case text, times are integer microseconds since 1970 UTC, JSON is text.
-- To read a time:
--   SELECT datetime(occurred_at / 1000000, 'unixepoch') FROM workflow_events;
-- There is one writer at a time, so ascending positions are the order of the commits.

-- Truth: the events of every task.
CREATE TABLE stored_events (
    -- AUTOINCREMENT: a position is never reused, so a reader's checkpoint stays valid.
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    stream_id      TEXT NOT NULL,
    version        INTEGER NOT NULL CONSTRAINT versions_start_at_1 CHECK (version >= 1),
    event_id       TEXT NOT NULL CONSTRAINT an_event_is_written_once UNIQUE,
    event_type     TEXT NOT NULL,
    event_data     TEXT NOT NULL,
    occurred_at    INTEGER NOT NULL,
    command_id     TEXT NOT NULL,
    -- Where it is not the id of the command.
    correlation_id TEXT,
    traceparent    TEXT,
    actor          TEXT,
    schema_version INTEGER NOT NULL,
    gold           INTEGER NOT NULL,
    CONSTRAINT a_version_is_taken_once UNIQUE (stream_id, version)
) STRICT;

-- The form to read events in: what caused each of them as one JSON object.
CREATE VIEW workflow_events AS
    SELECT position, stream_id, version, event_id, event_type, event_data,
           -- A patch leaves out what is null.
           json_patch('{}', json_object(
               'command_id', command_id, 'correlation_id', coalesce(correlation_id, command_id),
               'traceparent', traceparent, 'actor', actor, 'schema_version', schema_version,
               'gold', iif(gold, json('true'), NULL))) AS metadata,
           occurred_at
    FROM stored_events;

CREATE TRIGGER stored_events_are_never_changed BEFORE UPDATE ON stored_events
BEGIN
    SELECT RAISE(ABORT, 'the log of events is append-only');
END;

-- Has a row only inside a transaction of `glyph retention`, which deletes events that it has archived.
CREATE TABLE retention_at_work (only_row INTEGER PRIMARY KEY CHECK (only_row = 1)) STRICT;

CREATE TRIGGER stored_events_are_never_deleted BEFORE DELETE ON stored_events
WHEN NOT EXISTS (SELECT 1 FROM retention_at_work)
BEGIN
    SELECT RAISE(ABORT, 'the log of events is append-only');
END;

-- Truth: the last states of tasks whose history is in an archive. They cannot be made anew from the
-- events that are left in the log.
CREATE TABLE archived_tasks (
    task_id     TEXT NOT NULL PRIMARY KEY,
    archived_at INTEGER NOT NULL,
    state       TEXT NOT NULL
) STRICT;

-- Truth: messages that no event of a task stands for (rejections, goals, annotators, revised answers).
CREATE TABLE log_messages (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Comes after this event in the log; 0 before the first one.
    after_event  INTEGER NOT NULL,
    message_id   TEXT NOT NULL CONSTRAINT a_message_is_in_the_log_once UNIQUE,
    task_id      TEXT,
    routing_key  TEXT NOT NULL,
    message_type TEXT NOT NULL,
    body         TEXT NOT NULL
) STRICT;

CREATE INDEX log_messages_log ON log_messages (after_event, position);

-- Which deployment and which log this is. Ids of events derive from log_id.
CREATE TABLE deployment (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    id       TEXT NOT NULL,
    log_id   TEXT NOT NULL,
    -- JSON: the ids of before, the oldest first, each with the time of the restore.
    former_logs TEXT NOT NULL DEFAULT '[]'
);
-- UUIDs of version 4.
WITH drawn AS (
    SELECT n, substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-a' || substr(h, 18, 3)
              || '-' || substr(h, 21) AS id
    FROM (SELECT 1 AS n, lower(hex(randomblob(16))) AS h UNION ALL SELECT 2, lower(hex(randomblob(16))))
)
INSERT INTO deployment (id, log_id)
SELECT (SELECT id FROM drawn WHERE n = 1), (SELECT id FROM drawn WHERE n = 2);

-- Derived: states at some versions, so that loading replays few events.
CREATE TABLE workflow_snapshots (
    task_id        TEXT NOT NULL,
    version        INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    state          TEXT NOT NULL,
    -- SHA-256 of the text of the state; on a mismatch the snapshot is ignored.
    checksum       BLOB NOT NULL CONSTRAINT a_checksum_has_32_bytes CHECK (length(checksum) = 32),
    PRIMARY KEY (task_id, version)
) STRICT;

-- Derived: one row for each stream that has events; writers compare and set its version.
CREATE TABLE tasks (
    task_id       TEXT PRIMARY KEY,
    workflow      TEXT NOT NULL,
    revision      INTEGER NOT NULL,
    workflow_id   TEXT NOT NULL,
    version       INTEGER NOT NULL CONSTRAINT a_task_has_events CHECK (version >= 1),
    status        TEXT NOT NULL CONSTRAINT a_status_is_known
        CHECK (status IN ('running', 'paused', 'completed', 'failed', 'cancelled', 'archived')),
    current_steps TEXT NOT NULL,
    labels        TEXT NOT NULL,
    incidents     INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tasks_by_workflow ON tasks (workflow, task_id);
CREATE INDEX tasks_by_status ON tasks (status, task_id);
CREATE INDEX tasks_with_incidents ON tasks (task_id) WHERE incidents > 0;

-- Derived: how many tasks have each status, so that nobody has to count tasks.
CREATE TABLE task_counts (
    status TEXT PRIMARY KEY,
    count  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO task_counts (status, count)
VALUES ('running', 0), ('paused', 0), ('completed', 0), ('failed', 0), ('cancelled', 0), ('archived', 0);

CREATE TRIGGER a_new_task_is_counted AFTER INSERT ON tasks BEGIN
    UPDATE task_counts SET count = count + 1 WHERE status = NEW.status;
END;
CREATE TRIGGER a_moved_task_is_counted AFTER UPDATE OF status ON tasks WHEN NEW.status <> OLD.status BEGIN
    UPDATE task_counts SET count = count - 1 WHERE status = OLD.status;
    UPDATE task_counts SET count = count + 1 WHERE status = NEW.status;
END;
CREATE TRIGGER a_task_that_is_gone_is_counted AFTER DELETE ON tasks BEGIN
    UPDATE task_counts SET count = count - 1 WHERE status = OLD.status;
END;

-- Truth: the inbox. Every command in this table has its outcome.
CREATE TABLE commands (
    command_id   TEXT NOT NULL CONSTRAINT a_command_is_decided_once PRIMARY KEY,
    task_id      TEXT,
    type         TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    reason       TEXT,
    detail       TEXT,
    result       TEXT,
    content_hash BLOB NOT NULL,
    payload      TEXT,
    decided_at   INTEGER NOT NULL,
    CONSTRAINT an_outcome_is_whole CHECK (
        (outcome = 'applied' AND result IS NOT NULL AND reason IS NULL AND detail IS NULL)
        OR (outcome = 'rejected' AND reason IS NOT NULL AND detail IS NOT NULL AND result IS NULL)
    )
) STRICT;

CREATE INDEX commands_rejected ON commands (decided_at, command_id) WHERE outcome = 'rejected';
CREATE INDEX commands_rejected_by_task ON commands (task_id, decided_at, command_id)
    WHERE outcome = 'rejected';
-- Operator commands in the order in which they were decided.
CREATE INDEX commands_of_operators ON commands (decided_at, command_id) WHERE task_id IS NULL;

-- Rejected commands that an operator has seen to. The inbox keeps them: their ids stay known.
CREATE TABLE dropped_rejections (
    command_id TEXT NOT NULL PRIMARY KEY,
    actor      TEXT NOT NULL,
    dropped_at INTEGER NOT NULL
) STRICT;

-- Rejected commands that are in a file, payload and all. Retention deletes the payloads of these alone.
CREATE TABLE exported_rejections (
    command_id  TEXT NOT NULL PRIMARY KEY,
    actor       TEXT NOT NULL,
    exported_at INTEGER NOT NULL
) STRICT;

-- Messages between commit and confirm.
CREATE TABLE outbox (
    -- AUTOINCREMENT: a late confirm of a deleted row must not meet a new one.
    position        INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The messages of these events of a task, or one of log_messages.
    task_id         TEXT,
    from_version    INTEGER,
    to_version      INTEGER,
    message_id      TEXT,
    -- What has to be read to publish the row.
    bytes           INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    -- The relay that publishes the message, and the end of its lease.
    owner           TEXT,
    leased_until    INTEGER,
    attempts        INTEGER NOT NULL DEFAULT 0,
    -- The next attempt is not made before this time.
    next_attempt_at INTEGER,
    last_error      TEXT,
    CONSTRAINT events_or_a_message CHECK (
        (message_id IS NULL AND task_id IS NOT NULL AND from_version <= to_version)
        OR (message_id IS NOT NULL AND from_version IS NULL AND to_version IS NULL)
    ),
    CONSTRAINT a_lease_has_owner_and_end CHECK ((owner IS NULL) = (leased_until IS NULL))
) STRICT;

CREATE INDEX outbox_by_task ON outbox (task_id, position);
CREATE INDEX outbox_by_age ON outbox (created_at);
CREATE INDEX outbox_failed ON outbox (position) WHERE attempts > 0;

-- Derived: timers.
CREATE TABLE timers (
    id           TEXT PRIMARY KEY,
    task_id      TEXT NOT NULL,
    step_id      TEXT,
    visit        INTEGER NOT NULL,
    kind         TEXT NOT NULL,
    n            INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    leased_until INTEGER,
    workflow     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Timers are claimed workflow by workflow, so that those of a paused or archived one are in nobody's
-- way, however many they are. Calls and decisions are claimed apart.
CREATE INDEX timers_of_calls ON timers (workflow, due_at) WHERE kind = 'handler_call';
CREATE INDEX timers_of_decisions ON timers (workflow, due_at) WHERE kind <> 'handler_call';
CREATE INDEX timers_by_task ON timers (task_id);

-- Truth: unfinished work that people have saved.
CREATE TABLE drafts (
    task_id  TEXT NOT NULL,
    step_id  TEXT NOT NULL,
    visit    INTEGER NOT NULL,
    user_id  TEXT NOT NULL,
    draft    TEXT NOT NULL,
    saved_at INTEGER NOT NULL,
    PRIMARY KEY (task_id, step_id, visit, user_id)
) STRICT;

-- Truth: revisions of workflows.
CREATE TABLE workflows (
    id           TEXT NOT NULL PRIMARY KEY,
    workflow     TEXT NOT NULL,
    revision     INTEGER NOT NULL CONSTRAINT revisions_start_at_1 CHECK (revision >= 1),
    content_hash TEXT NOT NULL,
    config       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    -- Who stored the revision: the name of a token, or `cli:` and an account.
    actor        TEXT,
    CONSTRAINT a_revision_number_is_given_once UNIQUE (workflow, revision)
) STRICT;

CREATE TRIGGER workflow_revisions_are_never_changed BEFORE UPDATE ON workflows
BEGIN
    SELECT RAISE(ABORT, 'a revision is immutable');
END;

-- Derived from operator commands (the rows of `commands` without a task): when whole workflows were
-- paused.
CREATE TABLE workflow_pauses (
    pause_id TEXT NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    reason   TEXT,
    since    INTEGER NOT NULL,
    until    INTEGER,
    ended_at INTEGER,
    -- An archived workflow is paused until it is restored, and is left out of lists.
    archived INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- A workflow is paused once at a time.
CREATE UNIQUE INDEX workflow_pauses_open ON workflow_pauses (workflow) WHERE ended_at IS NULL;
CREATE INDEX workflow_pauses_ended ON workflow_pauses (ended_at) WHERE ended_at IS NOT NULL;

-- Derived from operator commands and rule actions (the rows of `commands` without a task): when
-- annotators were paused in workflows.
CREATE TABLE annotator_pauses (
    pause_id    TEXT NOT NULL PRIMARY KEY,
    workflow    TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    reason      TEXT,
    -- True when a rule of the workflow began the pause; the rule may also end it.
    by_rule     INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    ended_at    INTEGER,
    -- True when an operator ended the pause: earlier answers no longer count.
    judged_anew INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- An annotator is paused once at a time in a workflow.
CREATE UNIQUE INDEX annotator_pauses_open ON annotator_pauses (workflow, user_id) WHERE ended_at IS NULL;
CREATE INDEX annotator_pauses_of_person ON annotator_pauses (user_id, since);

-- Derived from the states of tasks: steps with a free slot, except paused ones.
CREATE TABLE slots (
    task_id       TEXT NOT NULL,
    step_id       TEXT NOT NULL,
    visit         INTEGER NOT NULL,
    workflow      TEXT NOT NULL,
    workflow_id   TEXT NOT NULL,
    gold          INTEGER NOT NULL,
    submitted     INTEGER NOT NULL,
    reserved      INTEGER NOT NULL,
    taken         INTEGER NOT NULL GENERATED ALWAYS AS (submitted + reserved) STORED,
    waiting_since INTEGER NOT NULL,
    -- People who are already in the visit, or must not be offered a slot in it again.
    barred        TEXT NOT NULL,
    -- People who submitted to the step whose value is the subject of the visit.
    judged        TEXT NOT NULL,
    -- People who released a slot in the visit: it is offered to them after all others.
    released      TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (task_id, step_id)
) STRICT;

-- The order in which slots of a step are offered.
CREATE INDEX slots_offered ON slots (workflow_id, step_id, gold, taken, waiting_since, task_id);
-- The order in which begun tasks are offered, where a step shares work by quality.
CREATE INDEX slots_begun ON slots (workflow_id, step_id, gold, waiting_since, task_id) WHERE submitted > 0;

-- Derived from the states of tasks: slots that people have claimed.
CREATE TABLE claims (
    user_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    PRIMARY KEY (user_id, task_id, step_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX claims_of_task ON claims (task_id);

-- Derived: how far each projection has read the log.
CREATE TABLE projections (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Derived: results of projections up to their checkpoints, identified by the projection's name and
-- a key.
CREATE TABLE projection_rows (
    projection TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (projection, key)
) STRICT, WITHOUT ROWID;

-- Derived: annotator models as of a position in the log, saved so that a starting process need not
-- read the whole log again.
CREATE TABLE annotator_models (
    -- Derived from workflow, step, field and classes: a question has one model.
    model    TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    step_id  TEXT NOT NULL,
    position INTEGER NOT NULL,
    state    TEXT NOT NULL,
    -- SHA-256 of the text of the state; on a mismatch the model is rebuilt.
    checksum BLOB NOT NULL CONSTRAINT a_checksum_has_32_bytes CHECK (length(checksum) = 32)
) STRICT, WITHOUT ROWID;

-- Derived: progress of goals in their current epoch, for people to read.
CREATE VIEW goals AS
    SELECT value ->> '$.workflow' AS workflow, value ->> '$.config.id' AS goal, value ->> '$.config.type' AS type,
           value ->> '$.epoch' AS epoch, COALESCE(value ->> '$.count', 0) AS count,
           value ->> '$.config.target' AS target, value ->> '$.completed_at' AS completed_at,
           value ->> '$.missed_at' AS missed_at
    FROM projection_rows WHERE projection = 'goals' AND key LIKE 'goal/%';

-- Truth: external work that reached goals have started. It is kept when progress is rebuilt from
-- the log: ids are derived from goal, epoch and action, so an action of a goal is done once,
-- however often the log is read.
CREATE TABLE goal_actions (
    id         TEXT NOT NULL PRIMARY KEY,
    workflow   TEXT NOT NULL,
    goal       TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    action     TEXT NOT NULL,
    payload    TEXT NOT NULL,
    status     TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'done', 'failed')),
    attempts   INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    due_at     INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX goal_actions_waiting ON goal_actions (due_at) WHERE status = 'waiting';

-- Bulk work of operators: done by the workers, item by item, whatever dies meanwhile.
CREATE TABLE jobs (
    id           TEXT NOT NULL PRIMARY KEY,
    kind         TEXT NOT NULL,
    actor        TEXT NOT NULL,
    settings     TEXT NOT NULL,
    state        TEXT NOT NULL DEFAULT 'running'
                 CONSTRAINT a_state_is_known CHECK (state IN ('running', 'stopped', 'done')),
    phase        TEXT NOT NULL DEFAULT '',
    reason       TEXT,
    stop_by      TEXT,
    -- The process that has the job until leased_until.
    runner       TEXT,
    leased_until INTEGER,
    -- Items by state, also those that succeeded or were returned and are deleted.
    counts       TEXT NOT NULL DEFAULT '{}',
    created_at   INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_by_age ON jobs (created_at, id);
CREATE INDEX jobs_running ON jobs (created_at, id) WHERE state = 'running';

-- Content is kept as it came.
CREATE TABLE job_items (
    job_id     TEXT NOT NULL,
    ordinal    INTEGER NOT NULL,
    state      TEXT NOT NULL CONSTRAINT a_state_of_an_item_is_known CHECK (state IN
        ('arriving', 'pending', 'succeeded', 'failing', 'failed', 'returning', 'returned')),
    identity   TEXT NOT NULL,
    order_key  TEXT,
    properties TEXT NOT NULL,
    body       BLOB NOT NULL,
    detail     TEXT,
    PRIMARY KEY (job_id, ordinal)
) STRICT;
CREATE INDEX job_items_by_state ON job_items (job_id, state, ordinal);
