-- Rights of the account for `glyph worker --no-migrate`: no DDL, neither UPDATE nor DELETE on
-- events, and no part in retention. docs/running.md has the whole of it. The owner of the tables runs this file after each migration:
--
--     psql -v role=glyph_runtime -v schema=public -f runtime_role.sql

GRANT USAGE ON SCHEMA :schema TO :role;
GRANT SELECT ON ALL TABLES IN SCHEMA :schema TO :role;
GRANT INSERT ON
    :schema.stored_events, :schema.log_messages, :schema.log_batches, :schema.commands, :schema.workflows,
    :schema.dropped_rejections, :schema.exported_rejections TO :role;
GRANT USAGE ON SEQUENCE :schema.log_positions TO :role;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA :schema TO :role;
GRANT INSERT, UPDATE, DELETE ON
    :schema.tasks, :schema.workflow_snapshots, :schema.outbox, :schema.timers,
    :schema.projections, :schema.projection_rows, :schema.workflow_pauses,
    :schema.annotator_pauses, :schema.slots, :schema.claims, :schema.annotator_models,
    :schema.jobs, :schema.job_items TO :role;
GRANT INSERT, DELETE ON :schema.task_counts TO :role;
GRANT INSERT, UPDATE ON :schema.drafts, :schema.goal_actions TO :role;
