-- Rows of projections: what is folded from the log, by the name of the projection and a key of its own.

CREATE TABLE projection_rows (
    projection text  NOT NULL,
    key        text  NOT NULL,
    value      jsonb NOT NULL,
    CONSTRAINT projection_rows_pkey PRIMARY KEY (projection, key)
);

COMMENT ON TABLE projection_rows IS
    'What projections have made of the log up to their checkpoints in `projections`: derived, made anew by a rebuild.';
COMMENT ON CONSTRAINT projection_rows_pkey ON projection_rows IS 'A projection has one row of a key.';
