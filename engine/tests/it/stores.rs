//! One conformance suite for all stores: it checks the promises of
//! [`Store`](glyph_workflow_engine::store::Store) on each of them.
//!
//! A store joins with an [`adapter::Adapter`] and one line of [`conformance!`] below; every case of
//! [`cases`] then runs on a fresh store of its own.

#![expect(clippy::unwrap_used, reason = "a store that fails fails the case")]

mod adapter;
mod cases;
mod memory;
#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_faults;
#[cfg(feature = "postgres")]
mod postgres_only;
#[cfg(feature = "postgres")]
mod postgres_server;
mod samples;
#[cfg(feature = "sqlite")]
mod sqlite;

/// One test for each case of the suite, in a module named after the store.
macro_rules! conformance {
    ($store:ident, $adapter:ty) => {
        mod $store {
            crate::stores::cases::for_each_case!(run_case, $adapter);
        }
    };
}

/// One case as a test. The store is dropped only if the case passed, so that a failed one can be
/// inspected.
macro_rules! run_case {
    ($adapter:ty, $($(#[$attribute:meta])* $case:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            use crate::stores::adapter::Adapter as _;
            let Some(fresh) = <$adapter>::fresh().await else { return };
            crate::stores::cases::$case(&fresh).await;
            fresh.finish().await;
        }
    )+};
}

conformance!(on_memory, crate::stores::memory::Memory);
#[cfg(feature = "postgres")]
conformance!(on_postgres, crate::stores::postgres::Postgres);
#[cfg(feature = "sqlite")]
conformance!(on_sqlite, crate::stores::sqlite::Sqlite);

/// What holds for stores that keep their events outside this process.
macro_rules! bounded {
    ($store:ident, $adapter:ty) => {
        mod $store {
            run_case! {
                $adapter,
                a_page_of_the_log_is_bounded_in_bytes;
            }
        }
    };
}

#[cfg(feature = "postgres")]
bounded!(bounded_on_postgres, crate::stores::postgres::Postgres);
#[cfg(feature = "sqlite")]
bounded!(bounded_on_sqlite, crate::stores::sqlite::Sqlite);
