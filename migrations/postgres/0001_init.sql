-- The schema of Glyph worker on PostgreSQL 14 or later.
--
-- Truth is in `stored_events` (read as `workflow_events`) with `log_entries`, `log_messages`, `archived_tasks`, `workflows`,
-- `commands` and `drafts`, and in `goal_actions` for what the log has caused and must not cause again. `outbox` holds messages between commit and confirm, `jobs` bulk work of operators. All other
-- tables are derived, and `glyph rebuild` writes them anew.

-- The log -----------------------------------------------------------------------------------------

-- Orders what one transaction adds: its events, and its messages that have no event.
CREATE SEQUENCE log_positions;

-- What caused an event is in columns: as JSON it would be a third of the table. Its content is JSON as it was written:
-- nothing in here looks into it, and as `jsonb` each event would be converted once to be stored and again whenever it
-- is read.
CREATE TABLE stored_events (
    stream_id      uuid        NOT NULL,
    event_id       uuid        NOT NULL,
    command_id     uuid        NOT NULL,
    version        bigint      NOT NULL,
    position       bigint      NOT NULL DEFAULT nextval('log_positions'),
    batch          bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    schema_version integer     NOT NULL,
    gold           boolean     NOT NULL,
    event_type     text        NOT NULL,
    event_data     text        NOT NULL,
    actor          text,
    correlation_id text,
    traceparent    text,
    CONSTRAINT stored_events_pkey PRIMARY KEY (stream_id, version),
    CONSTRAINT stored_events_version_from_one CHECK (version >= 1)
);

CREATE INDEX stored_events_log ON stored_events (batch, position);

COMMENT ON TABLE stored_events IS 'Events of tasks: the log from which everything else is derived. Append-only.';
COMMENT ON CONSTRAINT stored_events_pkey ON stored_events IS
    'A stream has one event of each version: two writers cannot both bring it to the same version.';
COMMENT ON CONSTRAINT stored_events_version_from_one ON stored_events IS 'Versions of a stream begin at 1.';
COMMENT ON COLUMN stored_events.batch IS
    'What its transaction has added to the log; `log_entries` says where that stands. With `position` it orders the log.';
COMMENT ON COLUMN stored_events.event_data IS 'JSON without U+0000, which `workflow_events` shows as jsonb.';
COMMENT ON COLUMN stored_events.correlation_id IS 'Where it is not the id of the command.';

-- Not for writing: nobody has a right to more than SELECT here but the owner.
CREATE VIEW workflow_events AS
    SELECT stream_id, version, event_id, event_type, event_data::jsonb AS event_data,
           jsonb_strip_nulls(jsonb_build_object(
               'command_id', command_id, 'correlation_id', coalesce(correlation_id, command_id::text),
               'traceparent', traceparent, 'actor', actor, 'schema_version', schema_version,
               'gold', CASE WHEN gold THEN true END)) AS metadata,
           occurred_at, position, batch
    FROM stored_events;

COMMENT ON VIEW workflow_events IS 'Events of tasks, with what caused each of them as one JSON object: the form to read them in.';

-- `glyph retention` deletes events that it has archived: in a transaction that says so, and as the owner of the
-- table. The setting alone opens nothing: anybody can set it. With a search path of its own, so that the caller cannot
-- put other functions in front of these.
CREATE FUNCTION stored_events_are_append_only() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('glyph.retention', true) = 'on'
       AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'the log of events is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Fires once per statement and not on INSERT, so it costs the hot path nothing.
CREATE TRIGGER stored_events_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON stored_events
    FOR EACH STATEMENT EXECUTE FUNCTION stored_events_are_append_only();
COMMENT ON TRIGGER stored_events_append_only ON stored_events IS
    'Events are never changed. Only the owner deletes some, once their task is archived.';

-- What an archived task leaves beside the events that stay in the log.
CREATE TABLE archived_tasks (
    task_id     uuid        NOT NULL,
    archived_at timestamptz NOT NULL,
    -- json, not jsonb: the state is kept as it was written.
    state       json        NOT NULL,
    CONSTRAINT archived_tasks_pkey PRIMARY KEY (task_id)
);

COMMENT ON TABLE archived_tasks IS
    'The last states of tasks whose history is in an archive: they cannot be made anew from the events that are left.';
COMMENT ON CONSTRAINT archived_tasks_pkey ON archived_tasks IS 'A task is archived once.';

CREATE TABLE log_messages (
    message_id   uuid        NOT NULL,
    batch        bigint      NOT NULL,
    position     bigint      NOT NULL DEFAULT nextval('log_positions'),
    task_id      uuid,
    routing_key  text        NOT NULL,
    message_type text        NOT NULL,
    body         text        NOT NULL,
    CONSTRAINT log_messages_pkey PRIMARY KEY (message_id)
);

CREATE INDEX log_messages_log ON log_messages (batch, position);

COMMENT ON TABLE log_messages IS
    'Messages that no event of a task stands for: rejections, goals, annotators, revised answers. Part of the log.';
COMMENT ON CONSTRAINT log_messages_pkey ON log_messages IS 'A message is in the log once.';

-- Whoever adds to the log writes a row here and refers to it.
CREATE TABLE log_batches (
    batch      bigint      GENERATED ALWAYS AS IDENTITY,
    has_events boolean     NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT log_batches_pkey PRIMARY KEY (batch)
);

COMMENT ON TABLE log_batches IS
    'What transactions have added to the log. The number identifies and orders nothing: it is drawn before the commit.';
COMMENT ON CONSTRAINT log_batches_pkey ON log_batches IS 'Events and messages refer to one batch.';

CREATE TABLE log_entries (
    entry      bigint  NOT NULL,
    batch      bigint  NOT NULL,
    has_events boolean NOT NULL,
    CONSTRAINT log_entries_pkey PRIMARY KEY (entry),
    CONSTRAINT log_entries_from_one CHECK (entry >= 1)
);

-- Who reads events passes over any number of entries that are messages alone.
CREATE INDEX log_entries_with_events ON log_entries (entry, batch) WHERE has_events;

COMMENT ON TABLE log_entries IS
    'The order of the log: batches, numbered without gaps in the order in which their transactions became visible.';
COMMENT ON CONSTRAINT log_entries_pkey ON log_entries IS 'An entry is one batch.';

-- Numbers a batch as the last act of its transaction, inside COMMIT. Under the lock nobody else commits an entry, and
-- each statement in here reads what was committed before it, so entries become visible in the order of their numbers,
-- and the number of a transaction that is rolled back is used again: a reader that asks for what comes after an entry
-- skips nothing, whatever other transactions are open. No client can stall while it holds the lock, and its holder
-- waits for nobody but the disk; waiting for it is no reason to doubt the work, so it has no limit of its own. Not a
-- counter in a row: its old versions would pile up under any transaction that is left open. With the rights of the
-- owner, so that nobody else writes entries.
CREATE FUNCTION number_log_entry() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = 0 AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('glyph log ' || TG_TABLE_SCHEMA, 0));
    INSERT INTO log_entries (entry, batch, has_events)
    SELECT coalesce(max(entry), 0) + 1, NEW.batch, NEW.has_events FROM log_entries;
    RETURN NULL;
END $$;
-- The temporary schema comes last, where nobody can put a table of this name in front of the real one.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION number_log_entry() SET search_path = %I, pg_temp', current_schema());
END $$;
CREATE CONSTRAINT TRIGGER number_log_entry AFTER INSERT ON log_batches
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION number_log_entry();

-- The identity of the log --------------------------------------------------------------------------

CREATE TABLE deployment (
    only_row boolean NOT NULL DEFAULT true,
    id       uuid    NOT NULL DEFAULT gen_random_uuid(),
    log_id   uuid    NOT NULL DEFAULT gen_random_uuid(),
    former_logs jsonb NOT NULL DEFAULT '[]',
    CONSTRAINT deployment_pkey PRIMARY KEY (only_row),
    CONSTRAINT deployment_one_row CHECK (only_row)
);

INSERT INTO deployment DEFAULT VALUES;

COMMENT ON TABLE deployment IS 'Which deployment and which log this is.';
COMMENT ON COLUMN deployment.id IS 'Who uses a prefix on the broker is known by it.';
COMMENT ON COLUMN deployment.log_id IS
    'Ids of events derive from it. Drawn anew after a restore to an earlier time, so that what happens anew has new ids.';
COMMENT ON COLUMN deployment.former_logs IS
    'The ids of before, the oldest first, each with the time of the restore: what happened before keeps its ids.';

-- States ------------------------------------------------------------------------------------------

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
    CONSTRAINT tasks_status_known CHECK (status IN ('running', 'paused', 'completed', 'failed', 'cancelled', 'archived')),
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
CREATE INDEX tasks_with_incidents ON tasks (task_id) WHERE incidents > 0;

COMMENT ON TABLE tasks IS 'One row for each stream: its head, which a batch locks, and the columns that searches use.';
COMMENT ON COLUMN tasks.version IS
    'The last version of the stream; 0 only inside the transaction that creates the row, never in a committed one.';
COMMENT ON CONSTRAINT tasks_pkey ON tasks IS 'A stream has one head, so one batch at a time writes it.';
COMMENT ON CONSTRAINT tasks_status_known ON tasks IS 'A task is in one of six statuses.';
COMMENT ON CONSTRAINT tasks_head_or_whole ON tasks IS 'A task that has events has all columns that searches use.';

-- Commands ----------------------------------------------------------------------------------------

CREATE TABLE commands (
    command_id   uuid        NOT NULL,
    task_id      uuid,
    type         text        NOT NULL,
    outcome      text        NOT NULL,
    reason       text,
    detail       text,
    result       json,
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
-- Applied commands are in none of these, so they cost nothing on the way of most commands.
CREATE INDEX commands_rejected_for ON commands (reason, decided_at, command_id) WHERE outcome = 'rejected';
-- Operator commands in the order in which they were decided.
CREATE INDEX commands_of_operators ON commands (decided_at, command_id) WHERE task_id IS NULL;

COMMENT ON TABLE commands IS 'The inbox: the outcome of every decided command. Operator commands that belong to no task have no task_id.';
-- json, not jsonb: nothing looks into it on the way of a command, so it is kept as it was written.
COMMENT ON COLUMN commands.result IS
    'Without the output of a task that the command completed: that is in the event `workflow_completed`.';
COMMENT ON CONSTRAINT commands_pkey ON commands IS 'A command id has one outcome: the same id again changes nothing.';
COMMENT ON CONSTRAINT commands_outcome_known ON commands IS 'A command is applied with a result or rejected with a reason.';
COMMENT ON CONSTRAINT commands_content_hash_is_sha256 ON commands IS 'The hash reveals a second command with the same id and different content.';

CREATE TABLE dropped_rejections (
    command_id uuid        NOT NULL,
    actor      text        NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT dropped_rejections_pkey PRIMARY KEY (command_id)
);

COMMENT ON TABLE dropped_rejections IS
    'Rejected commands that an operator has seen to. The inbox keeps them: their ids stay known.';
COMMENT ON CONSTRAINT dropped_rejections_pkey ON dropped_rejections IS 'A rejected command is dropped once.';

CREATE TABLE exported_rejections (
    command_id  uuid        NOT NULL,
    actor       text        NOT NULL,
    exported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT exported_rejections_pkey PRIMARY KEY (command_id)
);

COMMENT ON TABLE exported_rejections IS
    'Rejected commands that are in a file, payload and all. Retention deletes the payloads of these alone.';
COMMENT ON CONSTRAINT exported_rejections_pkey ON exported_rejections IS 'A rejected command is exported once.';

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
    task_id         uuid,
    from_version    bigint,
    to_version      bigint,
    message_id      uuid,
    bytes           integer     NOT NULL,
    owner           uuid,
    leased_until    timestamptz,
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error      text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT outbox_pkey PRIMARY KEY (position),
    CONSTRAINT outbox_events_or_message CHECK (
        (message_id IS NULL AND num_nulls(task_id, from_version, to_version) = 0 AND from_version <= to_version)
        OR (message_id IS NOT NULL AND num_nonnulls(from_version, to_version) = 0)),
    CONSTRAINT outbox_lease_whole CHECK ((owner IS NULL) = (leased_until IS NULL))
) WITH (
    -- Every row lives for less than a second: vacuum by count, not by share, and without pauses.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000
);

CREATE INDEX outbox_of_task ON outbox (task_id, position);

COMMENT ON TABLE outbox IS
    'What is committed and not yet confirmed by the broker: the messages of some events of a task, or one message of log_messages.';
COMMENT ON CONSTRAINT outbox_pkey ON outbox IS 'Within a task, rows in order of position are in order of version.';
COMMENT ON CONSTRAINT outbox_events_or_message ON outbox IS
    'A row stands for the messages of events, which are built anew from them, or names one message.';
COMMENT ON COLUMN outbox.from_version IS
    'The first event whose message is not confirmed; it moves on when a later one fails.';
COMMENT ON COLUMN outbox.bytes IS 'What has to be read to publish the row; a claim ends after so many bytes.';
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
    workflow     text        NOT NULL,
    CONSTRAINT timers_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- Timers are claimed workflow by workflow, so that those of a paused or archived one are in nobody's way, however many
-- they are. Calls and decisions are claimed apart.
CREATE INDEX timers_of_calls ON timers (workflow, due_at) WHERE kind = 'handler_call';
CREATE INDEX timers_of_decisions ON timers (workflow, due_at) WHERE kind <> 'handler_call';
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
    actor        text,
    CONSTRAINT workflows_pkey PRIMARY KEY (id),
    CONSTRAINT workflows_revision_key UNIQUE (workflow, revision),
    CONSTRAINT workflows_revision_from_one CHECK (revision >= 1)
);

COMMENT ON TABLE workflows IS 'Revisions of workflows, immutable.';
COMMENT ON CONSTRAINT workflows_pkey ON workflows IS 'A UUID names one revision permanently.';
COMMENT ON CONSTRAINT workflows_revision_key ON workflows IS 'A workflow has one revision of each number.';
COMMENT ON CONSTRAINT workflows_revision_from_one ON workflows IS 'Revisions count from 1.';

COMMENT ON COLUMN workflows.actor IS 'Who stored the revision: the name of a token, or `cli:` and an account.';

-- Pauses: derived from operator commands and the acts of rules, the rows of `commands` without a task -------------

CREATE TABLE workflow_pauses (
    pause_id uuid        NOT NULL,
    workflow text        NOT NULL,
    reason   text,
    since    timestamptz NOT NULL,
    until    timestamptz,
    ended_at timestamptz,
    archived boolean     NOT NULL DEFAULT false,
    CONSTRAINT workflow_pauses_pkey PRIMARY KEY (pause_id)
);

CREATE UNIQUE INDEX workflow_pauses_open ON workflow_pauses (workflow) WHERE ended_at IS NULL;
CREATE INDEX workflow_pauses_ended ON workflow_pauses (ended_at) WHERE ended_at IS NOT NULL;

COMMENT ON TABLE workflow_pauses IS 'When whole workflows were paused; every batch reads the pauses that still affect its tasks.';
COMMENT ON CONSTRAINT workflow_pauses_pkey ON workflow_pauses IS 'A pause has the id of the operator command that began it.';
COMMENT ON INDEX workflow_pauses_open IS 'A workflow is paused once at a time.';
COMMENT ON COLUMN workflow_pauses.archived IS 'An archived workflow is paused until it is restored, and is left out of lists.';

CREATE TABLE annotator_pauses (
    pause_id    uuid        NOT NULL,
    workflow    text        NOT NULL,
    user_id     uuid        NOT NULL,
    reason      text,
    by_rule     boolean     NOT NULL,
    since       timestamptz NOT NULL,
    ended_at    timestamptz,
    judged_anew boolean     NOT NULL,
    CONSTRAINT annotator_pauses_pkey PRIMARY KEY (pause_id)
);

CREATE UNIQUE INDEX annotator_pauses_open ON annotator_pauses (workflow, user_id) WHERE ended_at IS NULL;
CREATE INDEX annotator_pauses_of_person ON annotator_pauses (user_id, since);

COMMENT ON TABLE annotator_pauses IS 'When annotators were paused in workflows: a paused annotator is offered no slots.';
COMMENT ON CONSTRAINT annotator_pauses_pkey ON annotator_pauses IS 'A pause has the id of the command that began it.';
COMMENT ON INDEX annotator_pauses_open IS 'An annotator is paused once at a time in a workflow.';
COMMENT ON COLUMN annotator_pauses.by_rule IS 'True when a rule of the workflow began the pause; the rule may also end it.';
COMMENT ON COLUMN annotator_pauses.judged_anew IS 'True when an operator ended the pause: earlier answers no longer count.';

-- Slots: derived from the states of tasks, and searched when a person asks for work -------------------------------

CREATE TABLE slots (
    task_id       uuid        NOT NULL,
    step_id       text        NOT NULL,
    visit         integer     NOT NULL,
    workflow      text        NOT NULL,
    workflow_id   uuid        NOT NULL,
    gold          boolean     NOT NULL,
    submitted     integer     NOT NULL,
    reserved      integer     NOT NULL,
    taken         integer     GENERATED ALWAYS AS (submitted + reserved) STORED,
    waiting_since timestamptz NOT NULL,
    barred        uuid[]      NOT NULL,
    judged        uuid[]      NOT NULL,
    released      uuid[]      NOT NULL DEFAULT '{}',
    CONSTRAINT slots_pkey PRIMARY KEY (task_id, step_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- The order in which slots of a step are offered.
CREATE INDEX slots_offered ON slots (workflow_id, step_id, gold, taken, waiting_since, task_id);
-- The order in which begun tasks are offered, where a step shares work by quality.
CREATE INDEX slots_begun ON slots (workflow_id, step_id, gold, waiting_since, task_id) WHERE submitted > 0;

COMMENT ON TABLE slots IS 'Steps of tasks with a free slot, except paused ones.';
COMMENT ON CONSTRAINT slots_pkey ON slots IS 'A step of a task is in one visit at a time.';
COMMENT ON COLUMN slots.barred IS 'People who are already in the visit, or must not be offered a slot in it again.';
COMMENT ON COLUMN slots.judged IS 'People who submitted to the step whose value is the subject of the visit.';
COMMENT ON COLUMN slots.released IS 'People who released a slot in the visit: it is offered to them after all others.';

CREATE TABLE claims (
    user_id uuid NOT NULL,
    task_id uuid NOT NULL,
    step_id text NOT NULL,
    CONSTRAINT claims_pkey PRIMARY KEY (user_id, task_id, step_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX claims_of_task ON claims (task_id);

COMMENT ON TABLE claims IS 'Slots that people have claimed, over all tasks.';
COMMENT ON CONSTRAINT claims_pkey ON claims IS 'A person claims at most one slot in a step of a task.';

-- Projections: folded from the log -----------------------------------------------------------------

CREATE TABLE projections (
    name     text   NOT NULL,
    entry    bigint NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT projections_pkey PRIMARY KEY (name)
);

COMMENT ON TABLE projections IS 'How far each projection has read the log, moved in the transaction that writes its result.';
COMMENT ON CONSTRAINT projections_pkey ON projections IS 'A projection has one checkpoint.';

CREATE TABLE projection_rows (
    projection text  NOT NULL,
    key        text  NOT NULL,
    value      jsonb NOT NULL,
    CONSTRAINT projection_rows_pkey PRIMARY KEY (projection, key)
);

COMMENT ON TABLE projection_rows IS
    'Results of projections up to their checkpoints in `projections`: derived from the log, replaced by a rebuild.';
COMMENT ON CONSTRAINT projection_rows_pkey ON projection_rows IS 'A projection has one row for each key.';

CREATE TABLE annotator_models (
    model    uuid        NOT NULL,
    workflow text        NOT NULL,
    step_id  text        NOT NULL,
    entry    bigint      NOT NULL,
    position bigint      NOT NULL,
    -- json, not jsonb: the checksum covers this exact text.
    state    json        NOT NULL,
    checksum bytea       NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT annotator_models_pkey PRIMARY KEY (model),
    CONSTRAINT annotator_models_checksum_is_sha256 CHECK (octet_length(checksum) = 32)
);

COMMENT ON TABLE annotator_models IS 'Annotator models as of a position in the log: derived from it, and updated from there.';
COMMENT ON CONSTRAINT annotator_models_pkey ON annotator_models IS
    'Ids are derived from workflow, step, field and classes: a question has one model.';
COMMENT ON CONSTRAINT annotator_models_checksum_is_sha256 ON annotator_models IS
    'The checksum proves that a model is intact; a damaged one is ignored and rebuilt.';

CREATE VIEW goals AS
    SELECT value ->> 'workflow' AS workflow, value #>> '{config,id}' AS goal, value #>> '{config,type}' AS type,
           (value ->> 'epoch')::integer AS epoch, coalesce((value ->> 'count')::bigint, 0) AS count,
           (value #>> '{config,target}')::double precision AS target,
           (value ->> 'completed_at')::timestamptz AS completed_at,
           (value ->> 'missed_at')::timestamptz AS missed_at
    FROM projection_rows WHERE projection = 'goals' AND key LIKE 'goal/%';

COMMENT ON VIEW goals IS 'Progress of goals in their current epoch, for people to read.';

CREATE TABLE goal_actions (
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
    CONSTRAINT goal_actions_pkey PRIMARY KEY (id),
    CONSTRAINT goal_actions_status_known CHECK (status IN ('waiting', 'done', 'failed'))
);

CREATE INDEX goal_actions_waiting ON goal_actions (due_at) WHERE status = 'waiting';

COMMENT ON TABLE goal_actions IS 'External work that reached goals have started. It is kept when progress is rebuilt from the log.';
COMMENT ON CONSTRAINT goal_actions_pkey ON goal_actions IS
    'Ids are derived from goal, epoch and action: an action of a goal is done once, however often the log is read.';

-- Jobs ------------------------------------------------------------------------------------------

CREATE TABLE jobs (
    id           uuid        NOT NULL,
    kind         text        NOT NULL,
    actor        text        NOT NULL,
    settings     jsonb       NOT NULL,
    state        text        NOT NULL DEFAULT 'running',
    phase        text        NOT NULL DEFAULT '',
    reason       text,
    stop_by      text,
    runner       uuid,
    leased_until timestamptz,
    counts       jsonb       NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_state_known CHECK (state IN ('running', 'stopped', 'done'))
);

CREATE INDEX jobs_by_age ON jobs (created_at, id);
CREATE INDEX jobs_running ON jobs (created_at, id) WHERE state = 'running';

COMMENT ON TABLE jobs IS 'Bulk work of operators: done by the workers, item by item, whatever dies meanwhile.';
COMMENT ON CONSTRAINT jobs_pkey ON jobs IS 'A job has one row.';
COMMENT ON CONSTRAINT jobs_state_known ON jobs IS 'A job is at work, stopped or done.';
COMMENT ON COLUMN jobs.runner IS 'The process that has the job until leased_until.';
COMMENT ON COLUMN jobs.counts IS
    'Items by state, also those that succeeded or were returned and are deleted: counting them would cost more with each.';

-- Content is kept as it came. Properties are text: jsonb refuses U+0000 and rounds numbers.
CREATE TABLE job_items (
    job_id     uuid   NOT NULL,
    ordinal    bigint NOT NULL,
    state      text   NOT NULL,
    identity   text   NOT NULL,
    order_key  text,
    properties text   NOT NULL,
    body       bytea  NOT NULL,
    detail     text,
    CONSTRAINT job_items_pkey PRIMARY KEY (job_id, ordinal),
    CONSTRAINT job_items_of_a_job FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT job_items_state_known CHECK (state IN
        ('arriving', 'pending', 'succeeded', 'failing', 'failed', 'returning', 'returned'))
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX job_items_by_state ON job_items (job_id, state, ordinal);

COMMENT ON TABLE job_items IS 'The things of a job: frozen when it begins, deleted when they are done.';
COMMENT ON CONSTRAINT job_items_pkey ON job_items IS 'An item has one place in its job.';
COMMENT ON CONSTRAINT job_items_of_a_job ON job_items IS 'Items go with their job.';
COMMENT ON CONSTRAINT job_items_state_known ON job_items IS 'An item is in one of seven states.';

-- Numbers of tasks ------------------------------------------------------------------------------

-- How many tasks have each status, so that nobody has to count tasks: rows that are added up. A statement that moves
-- tasks adds a row for each status whose count it changed, so no two batches wait for each other. Workers replace rows
-- by their sum.
CREATE TABLE task_counts (
    id     bigint GENERATED ALWAYS AS IDENTITY,
    status text   NOT NULL,
    change bigint NOT NULL,
    CONSTRAINT task_counts_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

COMMENT ON TABLE task_counts IS 'Changes of the number of tasks by status, to be added up; derived from `tasks`.';

-- Triggers, so that every writer of tasks counts. They act with the rights of the owner, so an account that may write
-- tasks needs no more.
CREATE FUNCTION tasks_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_counts (status, change)
    SELECT status, sum(change)
    FROM (SELECT status, 1 AS change FROM new_rows UNION ALL SELECT status, -1 FROM old_rows) AS changes
    WHERE status IS NOT NULL
    GROUP BY status HAVING sum(change) <> 0;
    RETURN NULL;
END $$;
CREATE FUNCTION new_tasks_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_counts (status, change)
    SELECT status, count(*) FROM new_rows WHERE status IS NOT NULL GROUP BY status;
    RETURN NULL;
END $$;
CREATE FUNCTION a_task_that_is_gone_is_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_counts (status, change) VALUES (OLD.status, -1);
    RETURN NULL;
END $$;
-- The temporary schema comes last, where nobody can put a table of this name in front of the real one.
DO $$
DECLARE
    counting text;
BEGIN
    FOREACH counting IN ARRAY ARRAY[
        'tasks_are_counted', 'new_tasks_are_counted', 'a_task_that_is_gone_is_counted'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SECURITY DEFINER SET search_path = %I, pg_temp',
                       counting, current_schema());
    END LOOP;
END $$;

CREATE TRIGGER tasks_are_counted AFTER UPDATE ON tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tasks_are_counted();
CREATE TRIGGER new_tasks_are_counted AFTER INSERT ON tasks
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION new_tasks_are_counted();
CREATE TRIGGER a_task_that_is_gone_is_counted AFTER DELETE ON tasks
    FOR EACH ROW WHEN (OLD.status IS NOT NULL) EXECUTE FUNCTION a_task_that_is_gone_is_counted();
