//! Settings: flags over environment over a TOML file, checked once, with every fault told at once.
//!
//! Each setting has one name in three spellings: `http_addr` in the file, `GLYPH_HTTP_ADDR` in the
//! environment, `--http-addr` as a flag. A secret may also be named by a file that holds it
//! (`database_url_file`, `DATABASE_URL_FILE`, `--database-url-file`); whichever of the two the
//! higher layer sets wins.

mod error;
mod flags;
mod layers;
mod names;
mod read;
mod secret;
#[cfg(test)]
mod tests;
mod values;

pub use error::SettingsError;
pub use flags::SettingsFlags;
pub use names::misspelt_variables;
pub use secret::SecretUrl;
pub use values::{BrokerUrl, DatabaseUrl, LogFormat, Publish, Services, SettingLine, Settings};
