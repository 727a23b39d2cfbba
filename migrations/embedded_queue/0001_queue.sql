-- Queues of the embedded mode, in the same file as the events.
CREATE TABLE queue_messages (
    -- AUTOINCREMENT: a late acknowledgement of a deleted message must not meet a new one.
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    queue          TEXT NOT NULL,
    routing_key    TEXT NOT NULL,
    message_id     TEXT,
    message_type   TEXT,
    correlation_id TEXT,
    reply_to       TEXT,
    headers        TEXT NOT NULL,
    body           BLOB NOT NULL,
    enqueued_at    INTEGER NOT NULL,
    -- A retry is not delivered before this time.
    available_at   INTEGER NOT NULL,
    -- Unsuccessful deliveries: returned, or lost with their consumer.
    delivery_count INTEGER NOT NULL DEFAULT 0,
    -- The consumer that leases the message; a restarted consumer has a new name.
    leased_by      TEXT
) STRICT;

CREATE INDEX queue_messages_ready ON queue_messages (queue, id) WHERE leased_by IS NULL;
CREATE INDEX queue_messages_leased ON queue_messages (leased_by) WHERE leased_by IS NOT NULL;
