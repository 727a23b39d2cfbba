-- An archived workflow is paused until it is restored, and is left out of lists.
ALTER TABLE workflow_pauses ADD COLUMN archived boolean NOT NULL DEFAULT false;
