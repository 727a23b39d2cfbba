-- Derived from operators' acts and those of rules (the rows of `commands` without a task): when annotators were paused
-- in workflows.
CREATE TABLE annotator_pauses (
    pause_id    TEXT NOT NULL PRIMARY KEY,
    workflow    TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    reason      TEXT,
    -- A rule of the workflow began it, and may end it.
    by_rule     INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    ended_at    INTEGER,
    -- An operator ended it: answers from before count no more.
    judged_anew INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- An annotator is paused once at a time in a workflow.
CREATE UNIQUE INDEX annotator_pauses_open ON annotator_pauses (workflow, user_id) WHERE ended_at IS NULL;
CREATE INDEX annotator_pauses_of_person ON annotator_pauses (user_id, since);
