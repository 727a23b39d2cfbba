//! Runs statements on a connection and classifies their errors.

use sqlx::{
    Acquire, Arguments, Decode, PgConnection, Postgres, Row, Transaction, Type,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    super::EventStoreError,
    error::{classify, classify_commit},
};

/// A statement with its arguments.
pub(super) type PgQuery = Query<'static, Postgres, PgArguments>;

/// Begins a transaction whose statements are planned once for each connection, not each time they
/// run: planning took nearly half of the database's time in small batches. Such a plan must do for
/// one element and for a thousand, and for tables that have grown since it was made. It does where
/// every table is read by an index, in the order of that index, for one element after the other.
pub(super) const BEGIN_PLANNED_ONCE: &str = "
    BEGIN; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off";

/// Arguments with room for so many bytes. Without it they grow by doubling, and those of a large batch
/// take twice the memory.
pub(super) fn roomy(bytes: usize) -> PgArguments {
    let mut arguments = PgArguments::default();
    arguments.reserve(0, bytes);
    arguments
}

/// Runs a statement; returns the number of affected rows.
pub(super) async fn execute(
    conn: &mut PgConnection,
    query: PgQuery,
) -> Result<u64, EventStoreError> {
    let done = query.execute(conn).await.map_err(classify)?;
    Ok(done.rows_affected())
}

/// Reads all rows of a statement.
pub(super) async fn fetch<T>(
    conn: &mut PgConnection,
    query: PgQuery,
    decode: impl Fn(&PgRow) -> Result<T, EventStoreError>,
) -> Result<Vec<T>, EventStoreError> {
    let rows = query.fetch_all(conn).await.map_err(classify)?;
    rows.iter().map(decode).collect()
}

/// Reads the row of a statement, if there is one.
pub(super) async fn fetch_optional<T>(
    conn: &mut PgConnection,
    query: PgQuery,
    decode: impl Fn(&PgRow) -> Result<T, EventStoreError>,
) -> Result<Option<T>, EventStoreError> {
    let row = query.fetch_optional(conn).await.map_err(classify)?;
    row.as_ref().map(decode).transpose()
}

/// Reads the one row of a statement.
pub(super) async fn fetch_one<T>(
    conn: &mut PgConnection,
    query: PgQuery,
    decode: impl Fn(&PgRow) -> Result<T, EventStoreError>,
) -> Result<T, EventStoreError> {
    let row = query.fetch_one(conn).await.map_err(classify)?;
    decode(&row)
}

/// Reads the one value of a statement.
pub(super) async fn scalar<T>(conn: &mut PgConnection, query: PgQuery) -> Result<T, EventStoreError>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    fetch_one(conn, query, |row| nth(row, 0)).await
}

/// A column by its position, for statements whose result is not a row of a table.
pub(super) fn nth<'r, T>(row: &'r PgRow, index: usize) -> Result<T, EventStoreError>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(index).map_err(classify)
}

/// Begins a transaction.
pub(super) async fn begin<'c>(
    from: impl Acquire<'c, Database = Postgres>,
) -> Result<Transaction<'c, Postgres>, EventStoreError> {
    from.begin().await.map_err(classify)
}

/// Commits if the caller must know whether the outcome is unknown.
pub(super) async fn commit(tx: Transaction<'_, Postgres>) -> Result<(), EventStoreError> {
    tx.commit().await.map_err(classify_commit)
}

/// Commits work that may be repeated: an unknown outcome is treated as a failure.
pub(super) async fn commit_repeatable(
    tx: Transaction<'_, Postgres>,
) -> Result<(), EventStoreError> {
    tx.commit().await.map_err(classify)
}
