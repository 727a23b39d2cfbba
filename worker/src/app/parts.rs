//! Which parts of a worker run.

/// Which parts of a worker run.
#[derive(Clone, Copy, Debug)]
pub struct WorkerParts {
    /// The HTTP API.
    pub http: bool,
    /// Commands from the broker.
    pub consume: bool,
    /// Whether to migrate at the start; otherwise an old schema is refused.
    pub migrate: bool,
}

impl Default for WorkerParts {
    fn default() -> Self {
        Self {
            http: true,
            consume: true,
            migrate: true,
        }
    }
}
