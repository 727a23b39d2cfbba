//! Links to the HTTP API, in messages and in what the API serves.

use std::{str::FromStr, sync::Arc};

/// The base of the `$id` of every schema of this project: a name, not necessarily a page.
///
/// It is absolute because `dataschema` of a CloudEvent must be an absolute URI, and `$id` of the
/// schema files is the same name. Do not depend on its host: a schema is found by the rest of its
/// name, which is the path of its file below the folder `schemas`. Where a deployment has a public
/// URL, messages have the address of the schema there instead.
pub const SCHEMA_BASE: &str = "https://glyph.dev/schemas";

/// The folder of the schemas, in the repository and of the API.
const SCHEMA_FOLDER: &str = "schemas";

/// Makes links: under the public URL of the API where it is set, else relative to the API's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Without a slash at its end.
    public_url: Option<Arc<str>>,
}

/// The text is no public URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be the address of the API as others reach it, without query and fragment, as \
     https://glyph.example.org or https://example.org/glyph: {reason}"
)]
pub struct InvalidPublicUrl {
    reason: String,
}

impl Links {
    /// The public URL, if it is set.
    pub fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    /// The root of the API.
    pub fn root(&self) -> &str {
        self.public_url().unwrap_or("/")
    }

    /// A link to `path`, which begins with a slash.
    pub(super) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.public_url().unwrap_or_default())
    }

    /// A link to the file of a schema.
    pub fn to_schema(&self, file: &str) -> String {
        self.to(&format!("/{SCHEMA_FOLDER}/{file}"))
    }

    /// The name of a schema: where it is, or else the name that stands in its file. A link that is
    /// relative would be no name, since `dataschema` of a CloudEvent is an absolute URI: SDKs
    /// refuse whole messages with another.
    pub(super) fn schema_name(&self, file: &str) -> String {
        match self.public_url {
            Some(_) => self.to_schema(file),
            None => format!("{SCHEMA_BASE}/{file}"),
        }
    }
}

impl FromStr for Links {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason: &str| InvalidPublicUrl {
            reason: reason.to_owned(),
        };
        let url = reqwest::Url::parse(text).map_err(|why| invalid(&why.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("it begins with neither http:// nor https://"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has a query or a fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it names a user, whom every reader would see"));
        }
        Ok(Self {
            public_url: Some(url.as_str().trim_end_matches('/').into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_or_under_the_public_url() {
        let relative = Links::default();
        assert_eq!(relative.root(), "/");
        assert_eq!(relative.to("/api/v1/tasks"), "/api/v1/tasks");
        assert_eq!(relative.to_schema("a.v1.json"), "/schemas/a.v1.json");
        assert_eq!(
            relative.schema_name("a.v1.json"),
            "https://glyph.dev/schemas/a.v1.json"
        );
        for (text, root) in [
            ("https://example.org", "https://example.org"),
            ("http://Example.org:8080/", "http://example.org:8080"),
            ("https://example.org/glyph//", "https://example.org/glyph"),
        ] {
            let links: Links = text.parse().unwrap();
            assert_eq!(links.root(), root);
            assert_eq!(links.to("/api/v1/tasks"), format!("{root}/api/v1/tasks"));
            let schema = format!("{root}/schemas/a.v1.json");
            assert_eq!(links.to_schema("a.v1.json"), schema);
            assert_eq!(links.schema_name("a.v1.json"), schema);
        }
    }

    #[test]
    fn what_cannot_be_continued_by_a_path_is_no_public_url() {
        for (text, why) in [
            ("glyph.example.org", "relative URL"),
            ("ftp://example.org", "neither"),
            ("https://example.org?a=b", "query"),
            ("https://example.org/#a", "fragment"),
            ("https://u:secret@example.org", "a user"),
        ] {
            let error = text.parse::<Links>().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
    }
}
