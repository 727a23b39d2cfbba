//! The settings of traces, from the standard `OTEL_*` variables.
//!
//! Names and meanings are those of the OpenTelemetry specification. They are read here and not by
//! the library, so that their errors are reported like those of other settings, and so that the
//! headers, which may contain a key, can come from a file.

use std::{borrow::Cow, collections::BTreeMap, fs, time::Duration};

use percent_encoding::percent_decode_str;

const EXPORTER: &str = "OTEL_EXPORTER_OTLP_";
/// Default timeout of an export, as in the specification.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The specification's name for a sampler that follows the caller's decision.
const SAMPLER_DEFAULT: &str = "parentbased_always_on";

/// Where traces are exported to, and which.
#[derive(Clone, PartialEq)]
pub struct TraceSettings {
    /// The URL that spans are posted to.
    pub endpoint: String,
    /// Headers of each post; they may contain a key.
    pub headers: BTreeMap<String, String>,
    /// How long a post may take.
    pub timeout: Duration,
    /// The service name.
    pub service_name: String,
    /// Further resource attributes.
    pub attributes: BTreeMap<String, String>,
    /// Which traces are kept.
    pub sampler: TraceSampler,
}

// Written by hand: shows only the names of headers, as their values may be secret.
impl std::fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceSettings")
            .field("service_name", &self.service_name)
            .field("headers", &self.headers.keys())
            .field("sampler", &self.sampler)
            .finish_non_exhaustive()
    }
}

/// Which traces are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceSampler {
    /// Whether a trace that a caller started is kept exactly if the caller keeps it.
    pub parent_based: bool,
    /// Share of the other traces to keep, from 0 to 1.
    pub ratio: f64,
}

impl TraceSettings {
    /// Reads the variables; an empty one counts as unset. None if nothing is exported; on failure
    /// all errors at once.
    pub fn read(environment: &BTreeMap<String, String>) -> Result<Option<Self>, Vec<String>> {
        let mut reader = SettingsReader {
            environment,
            faults: Vec::new(),
        };
        let settings = reader.settings();
        if reader.faults.is_empty() {
            Ok(settings)
        } else {
            Err(reader.faults)
        }
    }
}

struct SettingsReader<'a> {
    environment: &'a BTreeMap<String, String>,
    faults: Vec<String>,
}

impl<'a> SettingsReader<'a> {
    fn settings(&mut self) -> Option<TraceSettings> {
        let disabled = self
            .get("OTEL_SDK_DISABLED")
            .is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let exporter = self.get("OTEL_TRACES_EXPORTER").unwrap_or("otlp");
        if disabled || exporter == "none" {
            return None;
        }
        let endpoint = self.endpoint()?;
        if exporter != "otlp" {
            self.fault(
                "OTEL_TRACES_EXPORTER",
                format!("`{exporter}` must be `otlp` or `none`"),
            );
        }
        let (name, protocol) = self.exporter("PROTOCOL").unwrap_or_default();
        if !matches!(protocol, "" | "http/protobuf") {
            self.fault(
                &name,
                format!("`{protocol}` is not supported: only `http/protobuf` is"),
            );
        }
        let mut attributes = self.pairs("OTEL_RESOURCE_ATTRIBUTES", None);
        let named = attributes.remove("service.name");
        let service_name = self.get("OTEL_SERVICE_NAME").map(str::to_owned).or(named);
        Some(TraceSettings {
            endpoint,
            headers: self.headers(),
            timeout: self.timeout(),
            service_name: service_name.unwrap_or_else(|| "glyph".to_owned()),
            attributes,
            sampler: self.sampler(),
        })
    }

    fn fault(&mut self, name: &str, why: impl std::fmt::Display) {
        self.faults.push(format!("{name}: {why}"));
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let value = self.environment.get(name)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// A variable of the exporter and its name: the one for traces takes precedence over the
    /// general one.
    fn exporter(&self, name: &str) -> Option<(String, &'a str)> {
        ["TRACES_", ""].into_iter().find_map(|signal| {
            let name = format!("{EXPORTER}{signal}{name}");
            self.get(&name).map(|value| (name.clone(), value))
        })
    }

    fn endpoint(&mut self) -> Option<String> {
        let (name, value) = self.exporter("ENDPOINT")?;
        let mut url = value.to_owned();
        if !name.contains("TRACES") {
            // The general variable names a base URL; each signal has its own path below it.
            url = format!("{}/v1/traces", url.trim_end_matches('/'));
        }
        match reqwest::Url::parse(&url) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {}
            // It may contain a password, so it is not quoted.
            _ => self.fault(&name, "is no URL as `http://collector:4318`"),
        }
        Some(url)
    }

    fn headers(&mut self) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        for signal in ["", "TRACES_"] {
            let name = format!("{EXPORTER}{signal}HEADERS");
            let file = self.get(&format!("{name}_FILE")).map(str::to_owned);
            let from_file = match file.as_deref().map(fs::read_to_string) {
                None => None,
                Some(Ok(text)) => Some(text),
                Some(Err(error)) => {
                    let file = file.unwrap_or_default();
                    self.fault(&name, format!("the file `{file}` cannot be read: {error}"));
                    continue;
                }
            };
            headers.extend(self.pairs(&name, from_file));
        }
        headers
    }

    /// `name=value,name=value`, percent-encoded.
    fn pairs(&mut self, name: &str, text: Option<String>) -> BTreeMap<String, String> {
        let text = text.or_else(|| self.get(name).map(str::to_owned));
        let mut pairs = BTreeMap::new();
        for pair in text.unwrap_or_default().split(',').map(str::trim) {
            let decoded = |text: &str| {
                let decoded = percent_decode_str(text.trim()).decode_utf8();
                decoded.ok().map(Cow::into_owned)
            };
            let read = pair.split_once('=').and_then(|(key, value)| {
                Some((decoded(key).filter(|key| !key.is_empty())?, decoded(value)?))
            });
            match read {
                Some((key, value)) => {
                    pairs.insert(key, value);
                }
                None if pair.is_empty() => {}
                // It may contain a key, so it is not quoted.
                None => self.fault(name, "must be `name=value`, separated by commas"),
            }
        }
        pairs
    }

    fn timeout(&mut self) -> Duration {
        let Some((name, text)) = self.exporter("TIMEOUT") else {
            return TIMEOUT_DEFAULT;
        };
        if let Ok(milliseconds @ 1..) = text.parse() {
            return Duration::from_millis(milliseconds);
        }
        let fault = format!("`{text}` must be a whole number of milliseconds, from 1");
        self.fault(&name, fault);
        TIMEOUT_DEFAULT
    }

    fn sampler(&mut self) -> TraceSampler {
        let ratio = match self.get("OTEL_TRACES_SAMPLER_ARG").map(str::parse::<f64>) {
            None => 1.0,
            Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
            Some(_) => {
                self.fault("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1");
                1.0
            }
        };
        let name = self.get("OTEL_TRACES_SAMPLER").unwrap_or(SAMPLER_DEFAULT);
        let (parent_based, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, name),
        };
        let ratio = match kind {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio,
            _ => {
                let fault = format!(
                    "`{name}` must be always_on, always_off or traceidratio, or one of them after \
                     parentbased_"
                );
                self.fault("OTEL_TRACES_SAMPLER", fault);
                ratio
            }
        };
        TraceSampler {
            parent_based,
            ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<TraceSettings>, Vec<String>> {
        let pairs = variables
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()));
        TraceSettings::read(&pairs.collect())
    }

    #[test]
    fn nothing_is_exported_unless_there_is_an_endpoint() {
        const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318");
        for off in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert_eq!(read(off), Ok(None), "{off:?}");
        }
        let defaults = read(&[ENDPOINT]).unwrap().unwrap();
        assert_eq!(defaults.endpoint, "http://h:4318/v1/traces");
        assert_eq!(defaults.service_name, "glyph");
        let all = TraceSampler {
            parent_based: true,
            ratio: 1.0,
        };
        assert_eq!(defaults.sampler, all);
    }

    #[test]
    fn the_variables_for_traces_go_before_those_for_all() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://h/t"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b=x%20y"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,zone=z"),
            ("OTEL_SERVICE_NAME", "mine"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.endpoint, "https://h/t");
        let pairs = |all: &[(&str, &str)]| {
            let all = all.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            all.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(settings.headers, pairs(&[("a", "2"), ("b", "x y")]));
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert_eq!(settings.service_name, "mine");
        assert_eq!(settings.attributes, pairs(&[("zone", "z")]));
        assert!(!settings.sampler.parent_based);
        assert!((settings.sampler.ratio - 0.25).abs() < f64::EPSILON);
    }

    #[test]
    fn every_fault_is_told_and_quotes_no_secret() {
        let faults = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "secret.org:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ]);
        let faults = faults.unwrap_err();
        assert_eq!(faults.len(), 7, "{faults:#?}");
        assert!(
            faults
                .iter()
                .all(|f| f.starts_with("OTEL_") && !f.contains("secret"))
        );
    }
}
