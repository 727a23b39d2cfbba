//! Where a verb finds what it asks for: in the store, or with a worker over HTTP.

use std::sync::Arc;

use glyph_workflow_engine::store::Store;
use serde::de::DeserializeOwned;

use super::{
    CliError,
    api::{Api, Call},
    connect::open_store,
};
use crate::settings::Settings;

/// A deployment that is reachable.
pub(super) enum Deployment {
    /// By its store.
    Store(Arc<dyn Store>),
    /// By a worker's HTTP API.
    Api(Api),
}

impl Deployment {
    /// The API of the settings if they name one, and else the store.
    pub(super) async fn open(settings: &Settings) -> Result<Self, CliError> {
        match Api::of(settings)? {
            Some(api) => Ok(Self::Api(api)),
            None => open_store(settings).await.map(Self::Store),
        }
    }

    /// One document: what a worker answers to `call`, or the same by `of_store`.
    pub(super) async fn ask<D: DeserializeOwned>(
        &self,
        call: Call,
        of_store: impl AsyncFnOnce(&Arc<dyn Store>) -> Result<D, CliError>,
    ) -> Result<D, CliError> {
        match self {
            Self::Store(store) => of_store(store).await,
            Self::Api(api) => api.ask(&call).await,
        }
    }
}

/// One document of the deployment that the settings name, as [`Deployment::ask`] finds it.
pub(super) async fn ask<D: DeserializeOwned>(
    settings: &Settings,
    call: Call,
    of_store: impl AsyncFnOnce(&Arc<dyn Store>) -> Result<D, CliError>,
) -> Result<D, CliError> {
    Deployment::open(settings).await?.ask(call, of_store).await
}
