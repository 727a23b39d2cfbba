//! Flags, environment and file, as layers of one figment.

use std::{collections::BTreeMap, fmt, path::Path};

use figment::{
    Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map},
};

use super::{
    error::SettingsError,
    names::{SETTINGS, Setting, is_known, nearest},
};

/// One layer of settings as figment merges it; a higher layer replaces whole values.
pub(super) struct Layer {
    name: String,
    values: Dict,
}

/// How the name of the file's layer begins.
pub(super) const FILE_LAYER: &str = "file ";

/// The key under which a layer keeps the file that holds a secret.
pub(super) const FILE: &str = "file";

impl Layer {
    /// `{key}_file` becomes a value of `key`, so that the higher layer wins in a merge whichever of
    /// the two spellings each layer uses.
    fn new(name: impl Into<String>, mut values: Dict) -> Result<Self, SettingsError> {
        let name = name.into();
        for Setting { key, .. } in SETTINGS.iter().filter(|s| s.secret) {
            let Some(file) = values.remove(&format!("{key}_file")) else {
                continue;
            };
            if values.contains_key(*key) {
                return Err(SettingsError::one(format!(
                    "{name}: both `{key}` and `{key}_file` are set; keep one of them"
                )));
            }
            values.insert(
                (*key).to_owned(),
                Dict::from([(FILE.to_owned(), file)]).into(),
            );
        }
        Ok(Self { name, values })
    }

    pub(super) fn from_texts(
        name: impl Into<String>,
        values: BTreeMap<String, String>,
    ) -> Result<Self, SettingsError> {
        Self::new(
            name,
            values
                .into_iter()
                .map(|(key, value)| (key, value.into()))
                .collect(),
        )
    }

    pub(super) fn from_environment(
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let keys: BTreeMap<String, String> = SETTINGS
            .iter()
            .flat_map(|s| {
                let file = s
                    .secret
                    .then(|| (format!("{}_FILE", s.env), format!("{}_file", s.key)));
                [(s.env.to_owned(), s.key.to_owned())]
                    .into_iter()
                    .chain(file)
            })
            .collect();
        // An empty variable counts as not set, as compose files write `GLYPH_LOG: ${GLYPH_LOG-}`.
        let given = environment
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty());
        let values = given
            .filter_map(|(name, value)| Some((keys.get(&name)?.clone(), value)))
            .collect();
        Self::from_texts("the environment", values)
    }

    pub(super) fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let name = format!("{FILE_LAYER}{}", path.display());
        let refused = |why: &dyn fmt::Display| SettingsError::one(format!("{name}: {why}"));
        let text = std::fs::read_to_string(path)
            .map_err(|error| refused(&format_args!("cannot be read: {error}")))?;
        let mut profiles = Toml::string(&text)
            .data()
            .map_err(|error| refused(&without_source(&error.to_string())))?;
        let values = profiles.remove(&Profile::Default).unwrap_or_default();
        let unknown: Vec<_> = values
            .keys()
            .filter(|key| !is_known(key))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            let faults = unknown.iter().map(|key| {
                let hint = nearest(key).map(|k| format!("; did you mean `{k}`?"));
                format!(
                    "{name}: there is no setting `{key}`{}",
                    hint.unwrap_or_default()
                )
            });
            return Err(SettingsError {
                faults: faults.collect(),
            });
        }
        Self::new(name, values)
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// An error of TOML without the lines of the file that it quotes: they may hold a password.
fn without_source(error: &str) -> String {
    let is_quoted = |line: &&str| {
        let line = line.trim_start_matches(|c: char| c.is_whitespace() || c.is_ascii_digit());
        line.starts_with('|') || line.is_empty()
    };
    let said: Vec<&str> = error.lines().filter(|line| !is_quoted(line)).collect();
    said.join(": ")
}
