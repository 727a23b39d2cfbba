-- Timers are claimed workflow by workflow, so that those of a paused or archived one are in nobody's
-- way, however many they are. Calls and decisions are claimed apart.
ALTER TABLE timers ADD COLUMN workflow TEXT NOT NULL DEFAULT '';
UPDATE timers
SET workflow = coalesce((SELECT t.workflow FROM tasks AS t WHERE t.task_id = timers.task_id), '');
CREATE INDEX timers_of_calls ON timers (workflow, due_at) WHERE kind = 'handler_call';
CREATE INDEX timers_of_decisions ON timers (workflow, due_at) WHERE kind <> 'handler_call';
DROP INDEX timers_by_due;
