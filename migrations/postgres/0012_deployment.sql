-- The id of this deployment: who uses a prefix on the broker is known by it.
CREATE TABLE deployment (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id       uuid NOT NULL
);
INSERT INTO deployment (id) VALUES (gen_random_uuid());
