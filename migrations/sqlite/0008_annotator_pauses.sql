-- Derived from operator commands and rule actions (the rows of `commands` without a task): when
-- annotators were paused in workflows.
CREATE TABLE annotator_pauses (
    pause_id    TEXT NOT NULL PRIMARY KEY,
    workflow    TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    reason      TEXT,
    -- True when a rule of the workflow began the pause; the rule may also end it.
    by_rule     INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    ended_at    INTEGER,
    -- True when an operator ended the pause: earlier answers no longer count.
    judged_anew INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- An annotator is paused once at a time in a workflow.
CREATE UNIQUE INDEX annotator_pauses_open ON annotator_pauses (workflow, user_id) WHERE ended_at IS NULL;
CREATE INDEX annotator_pauses_of_person ON annotator_pauses (user_id, since);
