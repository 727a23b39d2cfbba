-- Tables of the store in SQLite: the same as in Postgres, in the types that SQLite has.
--
-- Ids are UUIDs as lower-case text, times are integer microseconds since 1970 UTC, JSON is text.
-- To read a time:
--   SELECT datetime(occurred_at / 1000000, 'unixepoch') FROM workflow_events;
-- There is one writer at a time, so ascending positions are the order of the commits.

-- Truth: the events of every task.
CREATE TABLE workflow_events (
    -- AUTOINCREMENT: a position is never reused, so a reader's checkpoint stays valid.
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    stream_id   TEXT NOT NULL,
    version     INTEGER NOT NULL CONSTRAINT versions_start_at_1 CHECK (version >= 1),
    event_id    TEXT NOT NULL CONSTRAINT an_event_is_written_once UNIQUE,
    event_type  TEXT NOT NULL,
    event_data  TEXT NOT NULL,
    metadata    TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    CONSTRAINT a_version_is_taken_once UNIQUE (stream_id, version)
) STRICT;

CREATE TRIGGER workflow_events_are_never_changed BEFORE UPDATE ON workflow_events
BEGIN
    SELECT RAISE(ABORT, 'workflow_events is append-only');
END;

CREATE TRIGGER workflow_events_are_never_deleted BEFORE DELETE ON workflow_events
BEGIN
    SELECT RAISE(ABORT, 'workflow_events is append-only');
END;

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
        CHECK (status IN ('running', 'paused', 'completed', 'failed', 'cancelled')),
    current_steps TEXT NOT NULL,
    labels        TEXT NOT NULL,
    incidents     INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tasks_by_workflow ON tasks (workflow, task_id);
CREATE INDEX tasks_by_status ON tasks (status, task_id);

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

-- Messages between commit and confirm.
CREATE TABLE outbox (
    -- AUTOINCREMENT: a late confirm of a deleted row must not meet a new one.
    position        INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id      TEXT NOT NULL CONSTRAINT a_message_waits_once UNIQUE,
    task_id         TEXT,
    routing_key     TEXT NOT NULL,
    message_type    TEXT NOT NULL,
    body            TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    -- The relay that publishes the message, and the end of its lease.
    owner           TEXT,
    leased_until    INTEGER,
    attempts        INTEGER NOT NULL DEFAULT 0,
    -- The next attempt is not made before this time.
    next_attempt_at INTEGER,
    last_error      TEXT,
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
    leased_until INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX timers_by_due ON timers (due_at, id);
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
    CONSTRAINT a_revision_number_is_given_once UNIQUE (workflow, revision)
) STRICT;

CREATE TRIGGER workflow_revisions_are_never_changed BEFORE UPDATE ON workflows
BEGIN
    SELECT RAISE(ABORT, 'a revision is immutable');
END;

-- Derived: progress of goals.
CREATE TABLE goals (
    workflow     TEXT NOT NULL,
    goal         TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    target       REAL NOT NULL,
    current      REAL NOT NULL,
    completed_at INTEGER,
    PRIMARY KEY (workflow, goal)
) STRICT, WITHOUT ROWID;

-- Messages that goals have caused. They are kept when progress is rebuilt from the log: ids are
-- derived from goal, epoch and action, so an action of a goal happens once, however often the log
-- is read.
CREATE TABLE goal_actions (
    message_id   TEXT PRIMARY KEY,
    message_type TEXT NOT NULL,
    routing_key  TEXT NOT NULL,
    caused_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far each projection has read the log.
CREATE TABLE projections (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
