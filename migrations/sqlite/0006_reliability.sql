-- Derived: annotator models as of a position in the log, saved so that a starting process need not
-- read the whole log again.
CREATE TABLE annotator_models (
    -- Derived from workflow, step, field and classes: a question has one model.
    model    TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    step_id  TEXT NOT NULL,
    position INTEGER NOT NULL,
    state    TEXT NOT NULL,
    -- SHA-256 of the text of the state; on a mismatch the model is rebuilt.
    checksum BLOB NOT NULL CONSTRAINT a_checksum_has_32_bytes CHECK (length(checksum) = 32)
) STRICT, WITHOUT ROWID;
