//! The only file that knows `serde_yaml`, which is no longer developed.

use serde_json::Value;

/// Why text is no YAML.
pub(super) struct YamlFault {
    pub(super) message: String,
    /// Line and column, from 1, where known.
    pub(super) place: Option<(usize, usize)>,
}

/// The values of a document whose bounds are checked already.
pub(super) fn read(source: &str) -> Result<Value, YamlFault> {
    serde_yaml::from_str(source).map_err(|error| {
        let message = error.to_string();
        // The place is reported by itself.
        let message = match message.split(" at line ").next().unwrap_or(&message) {
            tag if tag.contains("invalid type: enum") => "tags such as `!name` are not supported",
            other => other,
        };
        let message = message.to_owned();
        YamlFault {
            message,
            place: error.location().map(|at| (at.line(), at.column())),
        }
    })
}
