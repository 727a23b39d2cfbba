-- Derived from the states of tasks: steps with a free slot, except paused ones.
CREATE TABLE slots (
    task_id       TEXT NOT NULL,
    step_id       TEXT NOT NULL,
    visit         INTEGER NOT NULL,
    workflow      TEXT NOT NULL,
    workflow_id   TEXT NOT NULL,
    gold          INTEGER NOT NULL,
    submitted     INTEGER NOT NULL,
    reserved      INTEGER NOT NULL,
    taken         INTEGER NOT NULL GENERATED ALWAYS AS (submitted + reserved) STORED,
    waiting_since INTEGER NOT NULL,
    -- People who are already in the visit, or must not be offered a slot in it again.
    barred        TEXT NOT NULL,
    -- People who submitted to the step whose value is the subject of the visit.
    judged        TEXT NOT NULL,
    PRIMARY KEY (task_id, step_id)
) STRICT;

-- The order in which slots of a step are offered.
CREATE INDEX slots_offered ON slots (workflow_id, step_id, gold, taken, waiting_since, task_id);

-- Derived from the states of tasks: slots that people have claimed.
CREATE TABLE claims (
    user_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    PRIMARY KEY (user_id, task_id, step_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX claims_of_task ON claims (task_id);
