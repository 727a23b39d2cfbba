-- The schema of Glyph worker on PostgreSQL 14 or later.
--
-- Truth is in `workflow_events`, `workflows`, `commands` and `drafts`, and in `goal_actions` for
-- messages that goals have caused and must not cause again. `tasks`, `workflow_snapshots`,
-- `timers`, `goals` and `projections` are derived from them. `outbox` is neither: it holds messages
-- between commit and confirm.

-- Streams -----------------------------------------------------------------------------------------

CREATE TABLE workflow_events (
    stream_id   uuid        NOT NULL,
    version     bigint      NOT NULL,
    event_id    uuid        NOT NULL,
    event_type  text        NOT NULL,
    event_data  jsonb       NOT NULL,
    metadata    jsonb       NOT NULL,
    occurred_at timestamptz NOT NULL,
    position    bigint      GENERATED ALWAYS AS IDENTITY,
    -- Not the transaction id alone: see the comment on this column.
    txid        xid8        NOT NULL
        DEFAULT greatest(pg_current_xact_id(), pg_snapshot_xmax(pg_current_snapshot())),
    CONSTRAINT workflow_events_pkey PRIMARY KEY (stream_id, version),
    CONSTRAINT workflow_events_version_from_one CHECK (version >= 1)
);

CREATE INDEX workflow_events_log ON workflow_events (txid, position);

COMMENT ON TABLE workflow_events IS 'Events of tasks: the log from which everything else is derived. Append-only.';
COMMENT ON CONSTRAINT workflow_events_pkey ON workflow_events IS
    'A stream has one event of each version: two writers cannot both bring it to the same version.';
COMMENT ON CONSTRAINT workflow_events_version_from_one ON workflow_events IS 'Versions of a stream begin at 1.';
COMMENT ON COLUMN workflow_events.txid IS
    'Orders the log with `position`. It is the transaction id, or what the next one would have been when the events '
    'were written, whichever is later. Never below the transaction id: what lies below the oldest running transaction '
    'is complete, so a reader that stays below it skips nothing. Never below what was committed before: a transaction '
    'that took its id early and waited for a stream still comes after the one it waited for, so the log holds each '
    'stream in order of version.';

CREATE FUNCTION workflow_events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'workflow_events is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Fires once per statement and not on INSERT, so it costs the hot path nothing.
CREATE TRIGGER workflow_events_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON workflow_events
    FOR EACH STATEMENT EXECUTE FUNCTION workflow_events_are_append_only();
COMMENT ON TRIGGER workflow_events_append_only ON workflow_events IS 'Events are never changed or deleted.';

CREATE TABLE workflow_snapshots (
    task_id        uuid        NOT NULL,
    version        bigint      NOT NULL,
    schema_version integer     NOT NULL,
    checksum       bytea       NOT NULL,
    -- json, not jsonb: the checksum covers this exact text.
    state          json        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT workflow_snapshots_pkey PRIMARY KEY (task_id, version),
    CONSTRAINT workflow_snapshots_checksum_is_sha256 CHECK (octet_length(checksum) = 32)
);

COMMENT ON TABLE workflow_snapshots IS 'States at some versions, so that loading need not replay from the beginning.';
COMMENT ON CONSTRAINT workflow_snapshots_pkey ON workflow_snapshots IS 'A task has one state at a version.';
COMMENT ON CONSTRAINT workflow_snapshots_checksum_is_sha256 ON workflow_snapshots IS
    'The checksum proves that a snapshot is intact; a damaged one is ignored and the stream is replayed.';

CREATE TABLE tasks (
    task_id       uuid        NOT NULL,
    version       bigint      NOT NULL DEFAULT 0,
    workflow      text,
    revision      integer,
    workflow_id   uuid,
    status        text,
    current_steps text[]      NOT NULL DEFAULT '{}',
    labels        jsonb       NOT NULL DEFAULT '{}',
    incidents     integer     NOT NULL DEFAULT 0,
    started_at    timestamptz,
    updated_at    timestamptz,
    CONSTRAINT tasks_pkey PRIMARY KEY (task_id),
    CONSTRAINT tasks_status_known CHECK (status IN ('running', 'paused', 'completed', 'failed', 'cancelled')),
    CONSTRAINT tasks_head_or_whole CHECK (
        version = 0
        OR num_nulls(workflow, revision, workflow_id, status, started_at, updated_at) = 0
    )
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- Keyset pages by task, within a workflow, a status, a step or a label. Neither `version` nor
-- `updated_at` is indexed, so most commands change no index.
CREATE INDEX tasks_by_workflow ON tasks (workflow, task_id);
CREATE INDEX tasks_by_status ON tasks (status, task_id);
CREATE INDEX tasks_by_step ON tasks USING gin (current_steps) WHERE status IN ('running', 'paused');
CREATE INDEX tasks_by_label ON tasks USING gin (labels jsonb_path_ops) WHERE labels <> '{}';

COMMENT ON TABLE tasks IS 'One row for each stream: its head, which a batch locks, and the columns that searches use.';
COMMENT ON COLUMN tasks.version IS
    'The last version of the stream; 0 only inside the transaction that creates the row, never in a committed one.';
COMMENT ON CONSTRAINT tasks_pkey ON tasks IS 'A stream has one head, so one batch at a time writes it.';
COMMENT ON CONSTRAINT tasks_status_known ON tasks IS 'A task is in one of five statuses.';
COMMENT ON CONSTRAINT tasks_head_or_whole ON tasks IS 'A task that has events has all columns that searches use.';

-- Commands ----------------------------------------------------------------------------------------

CREATE TABLE commands (
    command_id   uuid        NOT NULL,
    task_id      uuid,
    type         text        NOT NULL,
    outcome      text        NOT NULL,
    reason       text,
    detail       text,
    result       jsonb,
    content_hash bytea       NOT NULL,
    payload      jsonb,
    decided_at   timestamptz NOT NULL,
    CONSTRAINT commands_pkey PRIMARY KEY (command_id),
    CONSTRAINT commands_outcome_known CHECK (
        (outcome = 'applied' AND reason IS NULL AND result IS NOT NULL)
        OR (outcome = 'rejected' AND reason IS NOT NULL AND result IS NULL)
    ),
    CONSTRAINT commands_content_hash_is_sha256 CHECK (octet_length(content_hash) = 32)
);

CREATE INDEX commands_rejected ON commands (decided_at, command_id) WHERE outcome = 'rejected';
CREATE INDEX commands_rejected_of_task ON commands (task_id, decided_at, command_id) WHERE outcome = 'rejected';

COMMENT ON TABLE commands IS 'The inbox: the outcome of every decided command. Operator commands that belong to no task have no task_id.';
COMMENT ON CONSTRAINT commands_pkey ON commands IS 'A command id has one outcome: the same id again changes nothing.';
COMMENT ON CONSTRAINT commands_outcome_known ON commands IS 'A command is applied with a result or rejected with a reason.';
COMMENT ON CONSTRAINT commands_content_hash_is_sha256 ON commands IS 'The hash reveals a second command with the same id and different content.';

CREATE TABLE drafts (
    task_id  uuid        NOT NULL,
    step_id  text        NOT NULL,
    visit    integer     NOT NULL,
    user_id  uuid        NOT NULL,
    draft    jsonb       NOT NULL,
    saved_at timestamptz NOT NULL,
    CONSTRAINT drafts_pkey PRIMARY KEY (task_id, step_id, visit, user_id)
);

COMMENT ON TABLE drafts IS 'Unfinished work that people have saved; the latest draft of each person and visit.';
COMMENT ON CONSTRAINT drafts_pkey ON drafts IS 'A person has one draft in a visit.';

-- Messages ----------------------------------------------------------------------------------------

CREATE TABLE outbox (
    position        bigint      GENERATED ALWAYS AS IDENTITY,
    message_id      uuid        NOT NULL,
    task_id         uuid,
    routing_key     text        NOT NULL,
    message_type    text        NOT NULL,
    body            text        NOT NULL,
    owner           uuid,
    leased_until    timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error      text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT outbox_pkey PRIMARY KEY (position),
    CONSTRAINT outbox_message_id_key UNIQUE (message_id),
    CONSTRAINT outbox_lease_whole CHECK ((owner IS NULL) = (leased_until IS NULL))
) WITH (
    -- Every row lives for less than a second: vacuum by count, not by share, and without pauses.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000
);

CREATE INDEX outbox_of_task ON outbox (task_id, position);

COMMENT ON TABLE outbox IS 'Messages that are committed and not yet confirmed by the broker.';
COMMENT ON CONSTRAINT outbox_pkey ON outbox IS 'Within a task, rows in order of position are in order of version.';
COMMENT ON CONSTRAINT outbox_message_id_key ON outbox IS 'A message is in the outbox once.';
COMMENT ON CONSTRAINT outbox_lease_whole ON outbox IS 'A leased row has an end of its lease, so a crash frees it.';

-- Timers ------------------------------------------------------------------------------------------

CREATE TABLE timers (
    id           uuid        NOT NULL,
    task_id      uuid        NOT NULL,
    step_id      text,
    visit        integer     NOT NULL,
    kind         text        NOT NULL,
    n            integer     NOT NULL,
    due_at       timestamptz NOT NULL,
    leased_until timestamptz,
    CONSTRAINT timers_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX timers_by_due_time ON timers (due_at);
CREATE INDEX timers_of_task ON timers (task_id);

COMMENT ON TABLE timers IS 'Timers: what must happen later, derived from the states of tasks.';
COMMENT ON CONSTRAINT timers_pkey ON timers IS 'Ids are derived from task, step, visit, kind and number, so a timer exists once.';

-- Workflows ---------------------------------------------------------------------------------------

CREATE TABLE workflows (
    id           uuid        NOT NULL,
    workflow     text        NOT NULL,
    revision     integer     NOT NULL,
    content_hash text        NOT NULL,
    config       jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT workflows_pkey PRIMARY KEY (id),
    CONSTRAINT workflows_revision_key UNIQUE (workflow, revision),
    CONSTRAINT workflows_revision_from_one CHECK (revision >= 1)
);

COMMENT ON TABLE workflows IS 'Revisions of workflows, immutable.';
COMMENT ON CONSTRAINT workflows_pkey ON workflows IS 'A UUID names one revision permanently.';
COMMENT ON CONSTRAINT workflows_revision_key ON workflows IS 'A workflow has one revision of each number.';
COMMENT ON CONSTRAINT workflows_revision_from_one ON workflows IS 'Revisions count from 1.';

-- Goals -------------------------------------------------------------------------------------------

CREATE TABLE goals (
    workflow     text             NOT NULL,
    goal         text             NOT NULL,
    epoch        integer          NOT NULL,
    target       double precision NOT NULL,
    current      double precision NOT NULL,
    completed_at timestamptz,
    CONSTRAINT goals_pkey PRIMARY KEY (workflow, goal)
);

COMMENT ON TABLE goals IS 'Progress of goals in their current epoch: a projection of the log.';
COMMENT ON CONSTRAINT goals_pkey ON goals IS 'A goal belongs to a workflow, spans its revisions, and has one progress.';

CREATE TABLE goal_actions (
    message_id   uuid        NOT NULL,
    message_type text        NOT NULL,
    routing_key  text        NOT NULL,
    caused_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT goal_actions_pkey PRIMARY KEY (message_id)
);

COMMENT ON TABLE goal_actions IS 'Messages that goals have caused. They are kept when progress is rebuilt from the log.';
COMMENT ON CONSTRAINT goal_actions_pkey ON goal_actions IS
    'Ids are derived from goal, epoch and action: an action of a goal happens once, however often the log is read.';

CREATE TABLE projections (
    name     text   NOT NULL,
    txid     xid8   NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT projections_pkey PRIMARY KEY (name)
);

COMMENT ON TABLE projections IS 'How far each projection has read the log, moved in the transaction that writes its result.';
COMMENT ON CONSTRAINT projections_pkey ON projections IS 'A projection has one checkpoint.';
