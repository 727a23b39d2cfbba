-- Goals become rows of the projection `goals`, rebuilt from the log; the old table is dropped.
DROP TABLE goals;
DELETE FROM projections WHERE name = 'goals';

-- Progress of goals in their current epoch, for people to read.
CREATE VIEW goals AS
    SELECT value ->> '$.workflow' AS workflow, value ->> '$.config.id' AS goal, value ->> '$.config.type' AS type,
           value ->> '$.epoch' AS epoch, COALESCE(value ->> '$.count', 0) AS count,
           value ->> '$.config.target' AS target, value ->> '$.completed_at' AS completed_at,
           value ->> '$.missed_at' AS missed_at
    FROM projection_rows WHERE projection = 'goals' AND key LIKE 'goal/%';

-- Truth: external work that reached goals have started. It is kept when progress is rebuilt from
-- the log: ids are derived from goal, epoch and action, so an action of a goal is done once,
-- however often the log is read.
CREATE TABLE goal_work (
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

CREATE INDEX goal_work_waiting ON goal_work (due_at) WHERE status = 'waiting';
