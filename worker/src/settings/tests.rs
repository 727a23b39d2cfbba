use super::{SecretUrl, Settings, SettingsError, SettingsFlags, secret::redacted};

fn load(environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let pairs = environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Settings::load(&SettingsFlags::default(), pairs)
}

#[test]
fn passwords_are_never_shown() {
    for (url, shown) in [
        ("postgres://u:p@h:5432/d", "postgres://u:***@h:5432/d"),
        ("postgres://u:p@ss/w@h/d", "postgres://u:***@h/d"),
        (
            "postgres://u@h/d?password=p&x=1",
            "postgres://u@h/d?password=***&x=1",
        ),
        ("amqp://h", "amqp://h"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("postgres://u:12?p@h/d", "postgres://u:***@h/d"),
        ("amqp://u:12?34p@h", "amqp://u:***@h"),
        ("postgres://u:1?p=p@h/d", "postgres://***"),
        (
            "postgres://h/d?user=u&Password=p",
            "postgres://h/d?user=u&Password=***",
        ),
        ("postgres://h/d?password=p@p", "postgres://***"),
    ] {
        assert_eq!(redacted(url), shown);
        assert!(!format!("{:?}", SecretUrl::new(url)).contains("p@"));
    }
}

#[test]
fn what_only_the_services_would_refuse_is_refused_here_with_the_cure() {
    for (name, value, cure) in [
        ("GLYPH_PREFIX", "amq.glyph", "`amq.`"),
        ("GLYPH_PREFIX", "amq", "`amq.`"),
        ("GLYPH_SCHEMA", "pg_glyph", "the server"),
        ("AMQP_URL", "amqp://u:p@host/", "write `/%2f`"),
        ("AMQP_URL", "amqp://u:12?p@host", "%3F"),
        ("DATABASE_URL", "postgres://u:12?p@host/d", "%3F"),
        ("DATABASE_URL", "postgres://h1,h2/d", "several hosts"),
        ("GLYPH_PUBLIC_URL", "example.org", "https://"),
        ("GLYPH_PUBLIC_URL", "https://example.org/?a=b", "a query"),
    ] {
        let faults = load(&[(name, value)]).unwrap_err().faults;
        assert!(
            faults.len() == 1 && faults[0].contains(cure) && !faults[0].contains("p@"),
            "{value}: {faults:?}"
        );
    }
    for good in [
        "amqp://host",
        "amqp://host/%2f",
        "amqp://host/amq?heartbeat=5",
    ] {
        load(&[("AMQP_URL", good), ("GLYPH_PREFIX", "amqx")]).unwrap();
    }
    let mode = [("DATABASE_URL", "postgres://h/d"), ("PGSSLMODE", "full")];
    let fault = load(&mode).unwrap_err().to_string();
    assert!(fault.contains("PGSSLMODE"), "{fault}");
}

#[test]
fn weak_links_and_parameters_without_effect_are_told() {
    let told = |database: &str, broker: &str| {
        let settings = load(&[("DATABASE_URL", database), ("AMQP_URL", broker)]);
        settings.unwrap().link_warnings()
    };
    let good = "postgres://u:p@db.example.org/d";
    assert_eq!(told(good, "amqps://u:p@mq.example.org/%2f"), [""; 0]);
    let here = "postgres://u@[::1]/d?sslmode=disable";
    assert_eq!(told(here, "amqp://u:p@[::1]:5672"), [""; 0]);
    let weak = told(
        "postgres://u:p@db/d?sslmode=require",
        "amqp://u:p@mq:5672/%2f?verify=verify_none&heartbeat=9",
    );
    for (warning, part) in weak.iter().zip(["verify-full", "amqps://", "`verify`"]) {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(weak.len(), 3);
}

#[test]
fn a_secret_in_a_file_is_the_value_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load(&[("DATABASE_URL_FILE", path.to_str().unwrap())])
    };
    let marked = read("\u{feff}postgres://u:p@h/d\r\n").unwrap();
    assert!(marked.database.is_some());
    for quoted in ["\"postgres://u:p@h/d\"\n", "'postgres://u:p@h/d'"] {
        let fault = read(quoted).unwrap_err().to_string();
        assert!(
            fault.contains("quotation mark") && !fault.contains("p@"),
            "{fault}"
        );
    }
}

#[test]
fn only_the_file_and_the_default_let_a_reload_change_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("glyph.toml");
    std::fs::write(&path, "log = \"debug\"").unwrap();
    let flags = SettingsFlags {
        config: Some(path.clone()),
        ..SettingsFlags::default()
    };
    let settings = Settings::load(&flags, []).unwrap();
    assert_eq!(settings.log_is_set_by(), None);
    std::fs::write(&path, "log = \"trace\"").unwrap();
    let again = settings.again().unwrap();
    assert!(again.log == "trace" || again.log_is_set_by().is_some());
    let variable = [("GLYPH_LOG".to_owned(), "warn".to_owned())];
    let settings = Settings::load(&flags, variable).unwrap();
    assert_eq!(settings.log_is_set_by(), Some("the environment"));
    assert_eq!(load(&[]).unwrap().log_is_set_by(), None);
}

#[test]
fn variables_for_traces_are_shown_without_keys() {
    let settings = load(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://u:p@h:4318"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20key,x=y",
        ),
        ("OTEL_SERVICE_NAME", "mine"),
    ]);
    let lines = settings.unwrap().describe();
    let shown: Vec<_> = lines
        .iter()
        .filter(|line| line.key.starts_with("OTEL_"))
        .map(|line| line.value.as_deref().unwrap())
        .collect();
    let expected = ["https://u:***@h:4318", "authorization=***,x=***", "mine"];
    assert_eq!(shown, expected);
    let faults = load(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "h"),
        ("GLYPH_LANES", "many"),
    ]);
    assert_eq!(faults.unwrap_err().faults.len(), 2);
}

#[test]
fn pairs_that_do_not_go_together_are_refused() {
    let services = |database: &str, broker: &str| {
        load(&[("DATABASE_URL", database), ("AMQP_URL", broker)])
            .unwrap()
            .services()
    };
    assert!(services("sqlite:///a.db", "embedded:").is_ok());
    assert!(services("postgres://h/d", "amqps://h").is_ok());
    assert!(services("sqlite:///a.db", "amqp://h").is_err());
    assert!(services("postgres://h/d", "embedded:").is_err());
    assert_eq!(load(&[]).unwrap().services().unwrap_err().faults.len(), 3);
}

#[test]
fn every_fault_is_told_at_once_with_the_names_of_the_setting() {
    let faults = load(&[("GLYPH_LANES", "many"), ("GLYPH_PUBLISH", "step.done")]);
    let faults = faults.unwrap_err().faults;
    assert_eq!(faults.len(), 2);
    assert!(
        faults
            .iter()
            .any(|fault| fault.starts_with("GLYPH_LANES or --lanes"))
    );
}

#[test]
fn an_open_address_needs_tokens() {
    let open = ("GLYPH_HTTP_ADDR", "0.0.0.0:8080");
    assert!(load(&[open]).unwrap().check_http().is_err());
    assert!(
        load(&[open, ("GLYPH_API_TOKENS_FILE", "t")])
            .unwrap()
            .check_http()
            .is_ok()
    );
    assert!(load(&[]).unwrap().check_http().is_ok());
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    assert_eq!(load(&[("GLYPH_PREFIX", " ")]).unwrap().prefix, "glyph");
}

/// The defaults that help shows are those that apply when nothing is set.
#[test]
fn help_tells_every_setting_with_its_variable_and_its_default() {
    let lines = load(&[]).unwrap().describe();
    let documented = SettingsFlags::documented();
    for line in lines {
        let flag = format!("--{} <", line.key.replace('_', "-"));
        let help = documented.iter().find(|help| help.flag.starts_with(&flag));
        let help = help.unwrap_or_else(|| panic!("no help for {}", line.key));
        assert_eq!(help.environment.as_deref(), Some(line.environment.as_str()));
        let told = help.about.split_once("[default: ");
        let told = told.map_or("none", |(_, rest)| rest.trim_end_matches(']'));
        assert_eq!(told, line.value.as_deref().unwrap_or("none"), "{help:?}");
    }
    let variables: Vec<_> = documented
        .iter()
        .filter_map(|help| help.environment.as_deref())
        .collect();
    assert!(variables.contains(&"GLYPH_WEBHOOK_SECRET_FILE"));
}
