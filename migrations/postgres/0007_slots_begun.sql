-- The order in which begun tasks are offered, where a step shares work by quality.
CREATE INDEX slots_begun ON slots (workflow_id, step_id, gold, waiting_since, task_id) WHERE submitted > 0;
