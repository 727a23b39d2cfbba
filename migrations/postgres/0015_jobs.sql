-- Bulk work of operators: done by the workers, item by item, whatever dies meanwhile.
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
    succeeded    bigint      NOT NULL DEFAULT 0,
    returned     bigint      NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_state_known CHECK (state IN ('running', 'stopped', 'done'))
);
CREATE INDEX jobs_by_age ON jobs (created_at, id);
CREATE INDEX jobs_running ON jobs (created_at, id) WHERE state = 'running';

COMMENT ON COLUMN jobs.runner IS 'The process that has the job until leased_until.';
COMMENT ON COLUMN jobs.succeeded IS 'Items that are done with are counted here and deleted; failed ones stay.';

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
);
CREATE INDEX job_items_by_state ON job_items (job_id, state, ordinal);

-- Rejected commands that an operator has seen to. The inbox keeps them: their ids stay known.
CREATE TABLE dropped_rejections (
    command_id uuid        NOT NULL,
    actor      text        NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT dropped_rejections_pkey PRIMARY KEY (command_id)
);
