//! Servers of one test alone, and certificates for them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use uuid::Uuid;

/// PostgreSQL or RabbitMQ, started by `scripts/services` and stopped with the value.
pub(crate) struct PrivateService {
    folder: tempfile::TempDir,
    name: &'static str,
    pub(crate) url: String,
}

impl PrivateService {
    /// Starts `postgres` or `rabbitmq`, and waits until it answers.
    pub(crate) fn start(name: &'static str) -> Self {
        Self::start_by(services(), name)
    }

    /// Starts PostgreSQL of the version whose programs are in a folder.
    pub(crate) fn postgres_of(programs: &Path) -> Self {
        let mut services = services();
        services.env("GLYPH_POSTGRES_BIN", programs);
        Self::start_by(services, "postgres")
    }

    fn start_by(mut services: Command, name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let line = run(services.arg("start").arg(folder.path()).arg(name));
        let (_, url) = line.trim().split_once('=').unwrap();
        Self {
            url: url.to_owned(),
            folder,
            name,
        }
    }

    /// The folder of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    pub(crate) fn rabbitmqctl(&self, arguments: &[&str]) {
        let mut command = services();
        command.arg("rabbitmqctl").arg(self.folder.path());
        run(command.args(arguments));
    }
}

impl Drop for PrivateService {
    fn drop(&mut self) {
        let mut command = services();
        let _ = command
            .arg("stop")
            .arg(self.folder.path())
            .arg(self.name)
            .output();
    }
}

fn services() -> Command {
    let script = std::env::var_os("GLYPH_SERVICES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services"),
        PathBuf::from,
    );
    Command::new(script)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

/// A certificate authority, made by `openssl`.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
}

/// A certificate with its key, both in PEM.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

const NEW_KEY: [&str; 6] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-keyout",
];
const RULES: &str = "
[ca]
default_ca = tests
[tests]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
copy_extensions = copy
unique_subject = no
[policy]
commonName = supplied
";

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file("rules", RULES);
        file("index.txt", "");
        file("serial", "01\n");
        let authority = Self { folder };
        let mut openssl = authority.openssl("req");
        openssl.arg("-x509").args(NEW_KEY).arg("ca.key");
        run(openssl.args([
            "-out",
            "ca.pem",
            "-subj",
            &format!("/CN=tests {}", Uuid::now_v7()),
            "-days",
            "2",
        ]));
        authority
    }

    /// Its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a host; one that has expired, if `expired`.
    pub(crate) fn issue(&self, host: &str, expired: bool) -> Certificate {
        let name = format!("{host}-{expired}");
        let part = |ending: &str| format!("{name}.{ending}");
        let mut openssl = self.openssl("req");
        openssl.args(NEW_KEY).arg(part("key"));
        openssl.args(["-out", &part("csr"), "-subj", &format!("/CN={host}")]);
        run(openssl.args(["-addext", &format!("subjectAltName=DNS:{host}")]));
        let end = if expired {
            "20200201000000Z"
        } else {
            "20990101000000Z"
        };
        let mut openssl = self.openssl("ca");
        openssl.args(["-batch", "-notext", "-config", "rules"]);
        openssl.args(["-keyfile", "ca.key", "-cert", "ca.pem"]);
        openssl.args(["-in", &part("csr"), "-out", &part("pem")]);
        run(openssl.args(["-startdate", "20200101000000Z", "-enddate", end]));
        let path = |ending: &str| self.folder.path().join(part(ending));
        Certificate {
            certificate: path("pem"),
            key: path("key"),
        }
    }

    fn openssl(&self, verb: &str) -> Command {
        let mut command = Command::new("openssl");
        command.arg(verb).current_dir(self.folder.path());
        command
    }
}
