-- Derived: what has been learnt of annotators at a place in the log, so that a process that starts need not read
-- all of it again.
CREATE TABLE annotator_models (
    -- Derived from workflow, step, field and classes: a question has one model.
    model    TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    step_id  TEXT NOT NULL,
    position INTEGER NOT NULL,
    state    TEXT NOT NULL,
    -- SHA-256 of the text of the state; where it differs, the model is learnt anew.
    checksum BLOB NOT NULL CONSTRAINT a_checksum_has_32_bytes CHECK (length(checksum) = 32)
) STRICT, WITHOUT ROWID;
