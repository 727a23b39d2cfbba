-- Pauses of annotators: derived from operators' acts (and those of rules), the rows of `commands` without a task.

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

COMMENT ON TABLE annotator_pauses IS 'When annotators were paused in workflows: no slots are offered to them meanwhile.';
COMMENT ON CONSTRAINT annotator_pauses_pkey ON annotator_pauses IS 'A pause is named after the act that began it.';
COMMENT ON INDEX annotator_pauses_open IS 'An annotator is paused once at a time in a workflow.';
COMMENT ON COLUMN annotator_pauses.by_rule IS 'A rule of the workflow began it, and may end it.';
COMMENT ON COLUMN annotator_pauses.judged_anew IS 'An operator ended it: answers from before count no more.';
