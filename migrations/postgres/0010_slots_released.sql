-- Who released a slot of a visit is offered it after all others.
ALTER TABLE slots ADD COLUMN released uuid[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN slots.released IS 'People who released a slot in the visit: it is offered to them after all others.';
