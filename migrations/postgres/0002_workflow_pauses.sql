-- Pauses of whole workflows: derived from operator commands, the rows of `commands` without a task.

CREATE TABLE workflow_pauses (
    pause_id uuid        NOT NULL,
    workflow text        NOT NULL,
    reason   text,
    since    timestamptz NOT NULL,
    until    timestamptz,
    ended_at timestamptz,
    CONSTRAINT workflow_pauses_pkey PRIMARY KEY (pause_id)
);

CREATE UNIQUE INDEX workflow_pauses_open ON workflow_pauses (workflow) WHERE ended_at IS NULL;
CREATE INDEX workflow_pauses_ended ON workflow_pauses (ended_at) WHERE ended_at IS NOT NULL;

COMMENT ON TABLE workflow_pauses IS 'When whole workflows were paused; every batch reads the pauses that still affect its tasks.';
COMMENT ON CONSTRAINT workflow_pauses_pkey ON workflow_pauses IS 'A pause has the id of the operator command that began it.';
COMMENT ON INDEX workflow_pauses_open IS 'A workflow is paused once at a time.';

-- Operator commands in the order in which they were decided.
CREATE INDEX commands_of_operators ON commands (decided_at, command_id) WHERE task_id IS NULL;
