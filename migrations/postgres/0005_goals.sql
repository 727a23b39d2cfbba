-- Goals become rows of the projection `goals`, rebuilt from the log; the old table is dropped.
DROP TABLE goals;
DELETE FROM projections WHERE name = 'goals';

CREATE VIEW goals AS
    SELECT value ->> 'workflow' AS workflow, value #>> '{config,id}' AS goal, value #>> '{config,type}' AS type,
           (value ->> 'epoch')::integer AS epoch, coalesce((value ->> 'count')::bigint, 0) AS count,
           (value #>> '{config,target}')::double precision AS target,
           (value ->> 'completed_at')::timestamptz AS completed_at,
           (value ->> 'missed_at')::timestamptz AS missed_at
    FROM projection_rows WHERE projection = 'goals' AND key LIKE 'goal/%';

COMMENT ON VIEW goals IS 'Progress of goals in their current epoch, for people to read.';

CREATE TABLE goal_work (
    id         uuid        NOT NULL,
    workflow   text        NOT NULL,
    goal       text        NOT NULL,
    epoch      integer     NOT NULL,
    action     text        NOT NULL,
    payload    jsonb       NOT NULL,
    status     text        NOT NULL DEFAULT 'waiting',
    attempts   integer     NOT NULL DEFAULT 0,
    last_error text,
    due_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT goal_work_pkey PRIMARY KEY (id),
    CONSTRAINT goal_work_status_known CHECK (status IN ('waiting', 'done', 'failed'))
);

CREATE INDEX goal_work_waiting ON goal_work (due_at) WHERE status = 'waiting';

COMMENT ON TABLE goal_work IS 'External work that reached goals have started. It is kept when progress is rebuilt from the log.';
COMMENT ON CONSTRAINT goal_work_pkey ON goal_work IS
    'Ids are derived from goal, epoch and action: an action of a goal is done once, however often the log is read.';
