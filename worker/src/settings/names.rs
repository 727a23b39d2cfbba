//! The names of the settings.

/// A setting and its names.
pub(super) struct Setting {
    /// In the file; with dashes, the flag.
    pub(super) key: &'static str,
    /// In the environment.
    pub(super) env: &'static str,
    /// Whether `{key}_file` may name a file that contains the value.
    pub(super) secret: bool,
}

const fn setting(key: &'static str, env: &'static str) -> Setting {
    Setting {
        key,
        env,
        secret: false,
    }
}

const fn secret(key: &'static str, env: &'static str) -> Setting {
    Setting {
        key,
        env,
        secret: true,
    }
}

/// Every setting.
pub(super) const SETTINGS: [Setting; 26] = [
    secret("database_url", "DATABASE_URL"),
    secret("amqp_url", "AMQP_URL"),
    setting("api", "GLYPH_API"),
    secret("token", "GLYPH_TOKEN"),
    setting("http_addr", "GLYPH_HTTP_ADDR"),
    setting("public_url", "GLYPH_PUBLIC_URL"),
    setting("metrics_addr", "GLYPH_METRICS_ADDR"),
    setting("api_tokens_file", "GLYPH_API_TOKENS_FILE"),
    setting("cors_origins", "GLYPH_CORS_ORIGINS"),
    setting("prefix", "GLYPH_PREFIX"),
    setting("schema", "GLYPH_SCHEMA"),
    setting("publish", "GLYPH_PUBLISH"),
    setting("queues", "GLYPH_QUEUES"),
    setting("prefetch", "GLYPH_PREFETCH"),
    setting("batch_max", "GLYPH_BATCH_MAX"),
    setting("batch_wait_ms", "GLYPH_BATCH_WAIT_MS"),
    setting("lanes", "GLYPH_LANES"),
    setting("outbox_max", "GLYPH_OUTBOX_MAX"),
    setting("drain_secs", "GLYPH_DRAIN_SECS"),
    setting("agreement_window", "GLYPH_AGREEMENT_WINDOW"),
    setting("webhook_hosts", "GLYPH_WEBHOOK_HOSTS"),
    setting("webhook_allow_private", "GLYPH_WEBHOOK_ALLOW_PRIVATE"),
    secret("webhook_secret", "GLYPH_WEBHOOK_SECRET"),
    setting("secrets_dir", "GLYPH_SECRETS_DIR"),
    setting("log", "GLYPH_LOG"),
    setting("log_format", "GLYPH_LOG_FORMAT"),
];

/// Whether this key is allowed in a file.
pub(super) fn is_known(key: &str) -> bool {
    SETTINGS.iter().any(|s| {
        s.key == key || (s.secret && key.strip_suffix("_file").is_some_and(|stem| stem == s.key))
    })
}

/// How much of the link to Postgres is verified where the URL does not say it: a name of libpq's.
pub(super) const PG_SSL_MODE: &str = "PGSSLMODE";

/// Whether this environment variable is read.
pub(super) fn is_read(name: &str) -> bool {
    name == PG_SSL_MODE
        || name.starts_with("OTEL_")
        || SETTINGS
            .iter()
            .any(|s| s.env == name || (s.secret && name.strip_suffix("_FILE") == Some(s.env)))
}

/// The environment variable of a key, or of the file that holds its secret.
pub(super) fn environment_of(key: &str) -> Option<String> {
    SETTINGS.iter().find_map(|s| {
        let file = s.secret && key.strip_suffix("_file") == Some(s.key);
        match (s.key == key, file) {
            (true, _) => Some(s.env.to_owned()),
            (false, true) => Some(format!("{}_FILE", s.env)),
            (false, false) => None,
        }
    })
}

/// The key that was probably meant, for suggestions.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .map(|s| (strsim::jaro_winkler(s.key, key), s.key))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

/// Warnings about environment variables that look like typos of a known one. A shared prefix alone
/// is not enough: such a variable may be meant for another program.
pub fn misspelt_variables(environment: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut warnings: Vec<String> = environment
        .into_iter()
        .filter(|name| SETTINGS.iter().all(|s| s.env != name))
        .filter_map(|name| {
            let key = name.strip_prefix("GLYPH_")?.to_lowercase();
            if is_known(&key) {
                return None;
            }
            let meant = SETTINGS.iter().find(|s| Some(s.key) == nearest(&key))?.env;
            Some(format!(
                "nothing reads the variable {name}; did you mean {meant}?"
            ))
        })
        .collect();
    warnings.sort();
    warnings
}

/// The names of a setting in messages.
pub(super) fn names(key: &str) -> String {
    let env = SETTINGS
        .iter()
        .find(|s| s.key == key)
        .map_or(key, |s| s.env);
    format!("{env} or --{}", key.replace('_', "-"))
}
