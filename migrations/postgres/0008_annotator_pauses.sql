-- Pauses of annotators: derived from operator commands and rule actions, the rows of `commands`
-- without a task.

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
