-- Derived from operator commands (the rows of `commands` without a task): when whole workflows were
-- paused.
CREATE TABLE workflow_pauses (
    pause_id TEXT NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    reason   TEXT,
    since    INTEGER NOT NULL,
    until    INTEGER,
    ended_at INTEGER
) STRICT, WITHOUT ROWID;

-- A workflow is paused once at a time.
CREATE UNIQUE INDEX workflow_pauses_open ON workflow_pauses (workflow) WHERE ended_at IS NULL;
CREATE INDEX workflow_pauses_ended ON workflow_pauses (ended_at) WHERE ended_at IS NOT NULL;

-- Operator commands in the order in which they were decided.
CREATE INDEX commands_of_operators ON commands (decided_at, command_id) WHERE task_id IS NULL;
