//! Runs statements on a connection and classifies their errors.

use sqlx::{
    Decode, Row, Sqlite, SqliteConnection, SqliteExecutor, Type,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{super::EventStoreError, error::classify};

/// A statement with its arguments.
pub(super) type SqliteQuery = Query<'static, Sqlite, SqliteArguments>;

/// Runs a statement.
pub(super) async fn execute(
    connection: &mut SqliteConnection,
    query: SqliteQuery,
) -> Result<(), EventStoreError> {
    query.execute(connection).await.map(drop).map_err(classify)
}

/// Reads all rows of a statement.
pub(super) async fn fetch<'c, T>(
    from: impl SqliteExecutor<'c>,
    query: SqliteQuery,
    decode: impl Fn(&SqliteRow) -> Result<T, EventStoreError>,
) -> Result<Vec<T>, EventStoreError> {
    let rows = query.fetch_all(from).await.map_err(classify)?;
    rows.iter().map(decode).collect()
}

/// Reads the row of a statement, if there is one.
pub(super) async fn fetch_optional<'c, T>(
    from: impl SqliteExecutor<'c>,
    query: SqliteQuery,
    decode: impl Fn(&SqliteRow) -> Result<T, EventStoreError>,
) -> Result<Option<T>, EventStoreError> {
    let row = query.fetch_optional(from).await.map_err(classify)?;
    row.as_ref().map(decode).transpose()
}

/// Reads the one row of a statement.
pub(super) async fn fetch_one<'c, T>(
    from: impl SqliteExecutor<'c>,
    query: SqliteQuery,
    decode: impl Fn(&SqliteRow) -> Result<T, EventStoreError>,
) -> Result<T, EventStoreError> {
    let row = query.fetch_one(from).await.map_err(classify)?;
    decode(&row)
}

/// Reads the one value of a statement.
pub(super) async fn scalar<'c, T>(
    from: impl SqliteExecutor<'c>,
    query: SqliteQuery,
) -> Result<T, EventStoreError>
where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>,
{
    fetch_one(from, query, |row| nth(row, 0)).await
}

/// A column by its position, for statements whose result is not a row of a table.
pub(super) fn nth<'r, T>(row: &'r SqliteRow, index: usize) -> Result<T, EventStoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(index).map_err(classify)
}
