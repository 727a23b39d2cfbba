-- An archived workflow is paused until it is restored, and is left out of lists.
ALTER TABLE workflow_pauses ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
