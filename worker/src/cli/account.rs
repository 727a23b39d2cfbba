//! Who uses the command line: the sender of its commands.

use std::{fs, os::unix::fs::MetadataExt};

use glyph_workflow_engine::command::Sender;

/// The account of this process as the sender of an operator's commands: `cli:` and its name.
pub(super) fn sender() -> Sender {
    Sender::operator(actor())
}

/// The name that events and rows keep: `cli:` and the name of the account, or its number where it
/// has none.
pub(super) fn actor() -> String {
    // A process sees its own user there, whatever its environment says.
    let uid = fs::metadata("/proc/self").map(|of| of.uid()).ok();
    let name = uid.and_then(|uid| account_of(uid, &fs::read_to_string("/etc/passwd").ok()?));
    let by_environment = || {
        let names = ["USER", "LOGNAME"].into_iter();
        names
            .filter_map(|name| std::env::var(name).ok())
            .find(|name| !name.is_empty())
    };
    let name = match uid {
        Some(uid) => name.unwrap_or_else(|| uid.to_string()),
        None => by_environment().unwrap_or_else(|| "unknown".to_owned()),
    };
    format!("cli:{name}")
}

/// The name of an account in the text of `/etc/passwd`.
fn account_of(uid: u32, passwd: &str) -> Option<String> {
    let mut accounts = passwd.lines().map(|line| line.split(':'));
    accounts.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_has_a_name_or_a_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nglyph:x:999:999::/:\n";
        assert_eq!(account_of(999, passwd).as_deref(), Some("glyph"));
        assert_eq!(account_of(1, passwd), None);
        assert!(actor().starts_with("cli:"));
    }
}
