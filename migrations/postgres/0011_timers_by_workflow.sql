-- Timers are claimed workflow by workflow, so that those of a paused or archived one are in nobody's
-- way, however many they are. Calls and decisions are claimed apart.
ALTER TABLE timers ADD COLUMN workflow text NOT NULL DEFAULT '';
COMMENT ON COLUMN timers.workflow IS 'The workflow of the task, by which timers are claimed.';
UPDATE timers SET workflow = t.workflow FROM tasks t WHERE t.task_id = timers.task_id;

-- For whoever does not know the column: older builds beside this one.
CREATE FUNCTION timers_know_their_workflow() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    NEW.workflow := coalesce((SELECT t.workflow FROM tasks t WHERE t.task_id = NEW.task_id), '');
    RETURN NEW;
END $$;
CREATE TRIGGER timers_know_their_workflow BEFORE INSERT ON timers
FOR EACH ROW WHEN (NEW.workflow = '') EXECUTE FUNCTION timers_know_their_workflow();

CREATE INDEX timers_of_calls ON timers (workflow, due_at) WHERE kind = 'handler_call';
CREATE INDEX timers_of_decisions ON timers (workflow, due_at) WHERE kind <> 'handler_call';
DROP INDEX timers_by_due_time;
