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
    -- Items that are done with are counted here and deleted; failed ones stay.
    succeeded    INTEGER NOT NULL DEFAULT 0,
    returned     INTEGER NOT NULL DEFAULT 0,
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

-- Rejected commands that an operator has seen to. The inbox keeps them: their ids stay known.
CREATE TABLE dropped_rejections (
    command_id TEXT NOT NULL PRIMARY KEY,
    actor      TEXT NOT NULL,
    dropped_at INTEGER NOT NULL
) STRICT;
