//! What every store promises, on the simulated one without its faults.

#[path = "../../../engine/tests/it/stores/adapter.rs"]
mod adapter;
#[path = "../../../engine/tests/it/stores/cases/mod.rs"]
#[expect(dead_code, reason = "some cases are for stores outside this process")]
mod cases;
#[path = "../../../engine/tests/it/stores/samples.rs"]
mod samples;

use std::sync::Arc;

use async_trait::async_trait;
use glyph_workflow_engine::{
    ids::TaskId,
    store::{Store, TaskFilter, TaskIndex},
};

use self::adapter::Adapter;
use super::{
    plan::{Faults, Plan},
    process::Process,
    store::SimulatedStore,
    world::World,
};

struct Simulated(Arc<World>);

impl Simulated {
    fn client(&self, number: usize) -> Arc<dyn Store> {
        Arc::new(SimulatedStore::new(&Process::new(&self.0, number)))
    }
}

#[async_trait]
impl Adapter for Simulated {
    async fn fresh() -> Option<Self> {
        let plan = Plan {
            faults: Faults::default(),
            ..Plan::new(0, None)
        };
        Some(Self(World::new(plan)))
    }

    fn store(&self) -> Arc<dyn Store> {
        self.client(1)
    }

    async fn another(&self) -> Arc<dyn Store> {
        self.client(2)
    }

    async fn damage_snapshot(&self, _: TaskId) -> bool {
        false
    }

    async fn heads(&self) -> u64 {
        let filter = TaskFilter {
            limit: 1_000,
            ..TaskFilter::default()
        };
        self.0.store.tasks(filter).await.unwrap().tasks.len() as u64
    }
}

macro_rules! run_case {
    ($adapter:ty, $($(#[$attribute:meta])* $case:ident;)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $case() {
            let Some(fresh) = <$adapter>::fresh().await else { return };
            cases::$case(&fresh).await;
            fresh.finish().await;
        }
    )+};
}

cases::for_each_case!(run_case, Simulated);
