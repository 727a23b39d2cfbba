-- Derived: what projections have made of the log up to their checkpoints, by the name of the projection and a key of
-- its own.
CREATE TABLE projection_rows (
    projection TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (projection, key)
) STRICT, WITHOUT ROWID;
