//! Settings: flags over environment over a TOML file, checked once, with all errors reported
//! together.
//!
//! Each setting has one name in three spellings: `http_addr` in the file, `GLYPH_HTTP_ADDR` in the
//! environment, `--http-addr` as a flag. A secret may also be given as the path of a file that
//! contains it (`database_url_file`, `DATABASE_URL_FILE`, `--database-url-file`); the spelling in
//! the higher layer wins.

mod check;
mod defaults;
mod describe;
mod environment;
mod error;
mod flags;
mod layers;
mod names;
mod read;
mod secret;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod traces;
mod values;

pub use defaults::{BATCH_MAX_DEFAULT, BATCH_WAIT_DEFAULT, LANES_DEFAULT, OUTBOX_MAX_DEFAULT};
pub use describe::SettingLine;
pub use error::SettingsError;
pub use flags::{SettingHelp, SettingsFlags};
pub use names::misspelt_variables;
pub use secret::SecretUrl;
pub use tokens::{Role, TokenError, TokenHolder, TokenRefusal, Tokens};
pub use traces::{TraceSampler, TraceSettings};
pub use values::{
    ApiToken, ApiUrl, BrokerUrl, DatabaseUrl, EventQueues, LogFormat, Publish, Services, Settings,
};
