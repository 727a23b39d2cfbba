-- Annotator models, saved so that a starting process need not read the whole log again.

CREATE TABLE annotator_models (
    model    uuid        NOT NULL,
    workflow text        NOT NULL,
    step_id  text        NOT NULL,
    txid     xid8        NOT NULL,
    position bigint      NOT NULL,
    -- json, not jsonb: the checksum covers this exact text.
    state    json        NOT NULL,
    checksum bytea       NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT learnt_models_pkey PRIMARY KEY (model),
    CONSTRAINT learnt_models_checksum_is_sha256 CHECK (octet_length(checksum) = 32)
);

COMMENT ON TABLE annotator_models IS 'Annotator models as of a position in the log: derived from it, and updated from there.';
COMMENT ON CONSTRAINT learnt_models_pkey ON annotator_models IS
    'Ids are derived from workflow, step, field and classes: a question has one model.';
COMMENT ON CONSTRAINT learnt_models_checksum_is_sha256 ON annotator_models IS
    'The checksum proves that a model is intact; a damaged one is ignored and rebuilt.';
