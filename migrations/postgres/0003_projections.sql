-- Rows of projections, folded from the log; identified by the projection's name and a key.

CREATE TABLE projection_rows (
    projection text  NOT NULL,
    key        text  NOT NULL,
    value      jsonb NOT NULL,
    CONSTRAINT projection_rows_pkey PRIMARY KEY (projection, key)
);

COMMENT ON TABLE projection_rows IS
    'Results of projections up to their checkpoints in `projections`: derived from the log, replaced by a rebuild.';
COMMENT ON CONSTRAINT projection_rows_pkey ON projection_rows IS 'A projection has one row for each key.';
