-- The id of this deployment: who uses a prefix on the broker is known by it.
CREATE TABLE deployment (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    id       TEXT NOT NULL
);
-- A UUID of version 4.
INSERT INTO deployment (id)
SELECT substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-a' || substr(h, 18, 3) || '-' || substr(h, 21)
FROM (SELECT lower(hex(randomblob(16))) AS h);
