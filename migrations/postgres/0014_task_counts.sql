-- How many tasks have each status, so that nobody has to count tasks: rows that are added up. A statement that moves
-- tasks adds a row for each status whose count it changed, so no two batches wait for each other. Workers replace rows
-- by their sum.
CREATE TABLE task_counts (
    id     bigint GENERATED ALWAYS AS IDENTITY,
    status text   NOT NULL,
    change bigint NOT NULL,
    CONSTRAINT task_counts_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

COMMENT ON TABLE task_counts IS 'Changes of the number of tasks by status, to be added up; derived from `tasks`.';

-- Triggers, so that every writer of tasks counts: older builds beside this one too. They act with the rights of the
-- owner, so an account that may write tasks needs no more.
CREATE FUNCTION tasks_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_counts (status, change)
    SELECT status, sum(change)
    FROM (SELECT status, 1 AS change FROM new_rows UNION ALL SELECT status, -1 FROM old_rows) AS changes
    WHERE status IS NOT NULL
    GROUP BY status HAVING sum(change) <> 0;
    RETURN NULL;
END $$;
CREATE FUNCTION a_task_is_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_counts (status, change)
    SELECT coalesce(NEW.status, OLD.status), CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    RETURN NULL;
END $$;
-- The temporary schema comes last, where nobody can put a table of this name in front of the real one.
DO $$
DECLARE
    counting text;
BEGIN
    FOREACH counting IN ARRAY ARRAY['tasks_are_counted', 'a_task_is_counted'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SECURITY DEFINER SET search_path = %I, pg_temp',
                       counting, current_schema());
    END LOOP;
END $$;

CREATE TRIGGER tasks_are_counted AFTER UPDATE ON tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION tasks_are_counted();
-- The head of a new stream has no status yet.
CREATE TRIGGER a_new_task_is_counted AFTER INSERT ON tasks
    FOR EACH ROW WHEN (NEW.status IS NOT NULL) EXECUTE FUNCTION a_task_is_counted();
CREATE TRIGGER a_task_that_is_gone_is_counted AFTER DELETE ON tasks
    FOR EACH ROW WHEN (OLD.status IS NOT NULL) EXECUTE FUNCTION a_task_is_counted();

-- The triggers hold off writers until this transaction ends.
INSERT INTO task_counts (status, change)
SELECT status, count(*) FROM tasks WHERE status IS NOT NULL GROUP BY status;
