-- How many tasks have each status, so that nobody has to count tasks.
CREATE TABLE task_counts (
    status TEXT PRIMARY KEY,
    count  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO task_counts (status, count)
VALUES ('running', 0), ('paused', 0), ('completed', 0), ('failed', 0), ('cancelled', 0);
UPDATE task_counts
SET count = (SELECT count(*) FROM tasks AS t WHERE t.status = task_counts.status);

CREATE TRIGGER a_new_task_is_counted AFTER INSERT ON tasks BEGIN
    UPDATE task_counts SET count = count + 1 WHERE status = NEW.status;
END;
CREATE TRIGGER a_moved_task_is_counted AFTER UPDATE OF status ON tasks WHEN NEW.status <> OLD.status BEGIN
    UPDATE task_counts SET count = count - 1 WHERE status = OLD.status;
    UPDATE task_counts SET count = count + 1 WHERE status = NEW.status;
END;
CREATE TRIGGER a_task_that_is_gone_is_counted AFTER DELETE ON tasks BEGIN
    UPDATE task_counts SET count = count - 1 WHERE status = OLD.status;
END;
