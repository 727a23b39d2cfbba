-- Timers are claimed workflow by workflow, so that those of a paused or archived one are in nobody's
-- way, however many they are. Calls and decisions are claimed apart.
ALTER TABLE timers ADD COLUMN workflow text NOT NULL DEFAULT '';
COMMENT ON COLUMN timers.workflow IS 'The workflow of the task; empty if an older build wrote the timer. Those are claimed too, and a decision leaves them if their workflow is paused.';
UPDATE timers SET workflow = t.workflow FROM tasks t WHERE t.task_id = timers.task_id;
CREATE INDEX timers_of_calls ON timers (workflow, due_at) WHERE kind = 'handler_call';
CREATE INDEX timers_of_decisions ON timers (workflow, due_at) WHERE kind <> 'handler_call';
DROP INDEX timers_by_due_time;
