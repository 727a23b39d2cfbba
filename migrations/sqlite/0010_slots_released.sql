-- Who released a slot of a visit is offered it after all others.
ALTER TABLE slots ADD COLUMN released TEXT NOT NULL DEFAULT '[]';
