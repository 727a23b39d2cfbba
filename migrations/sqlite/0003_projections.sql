-- Derived: results of projections up to their checkpoints, identified by the projection's name and
-- a key.
CREATE TABLE projection_rows (
    projection TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (projection, key)
) STRICT, WITHOUT ROWID;
