-- Free and claimed slots: derived from the states of tasks, and searched when a person asks for
-- work.

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
    CONSTRAINT slots_pkey PRIMARY KEY (task_id, step_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- The order in which slots of a step are offered.
CREATE INDEX slots_offered ON slots (workflow_id, step_id, gold, taken, waiting_since, task_id);

COMMENT ON TABLE slots IS 'Steps of tasks with a free slot, except paused ones.';
COMMENT ON CONSTRAINT slots_pkey ON slots IS 'A step of a task is in one visit at a time.';
COMMENT ON COLUMN slots.barred IS 'People who are already in the visit, or must not be offered a slot in it again.';
COMMENT ON COLUMN slots.judged IS 'People who submitted to the step whose value is the subject of the visit.';

CREATE TABLE claims (
    user_id uuid NOT NULL,
    task_id uuid NOT NULL,
    step_id text NOT NULL,
    CONSTRAINT claims_pkey PRIMARY KEY (user_id, task_id, step_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX claims_of_task ON claims (task_id);

COMMENT ON TABLE claims IS 'Slots that people have claimed, over all tasks.';
COMMENT ON CONSTRAINT claims_pkey ON claims IS 'A person claims at most one slot in a step of a task.';
