//! Canonical JSON (sorted keys, no whitespace), so that equal content has equal hashes.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 of the canonical form.
pub(crate) fn hash(value: &Value) -> [u8; 32] {
    hash_of(&bytes(value))
}

/// SHA-256 of a canonical form.
pub(crate) fn hash_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The canonical form.
pub(crate) fn text(value: &Value) -> String {
    String::from_utf8(bytes(value)).unwrap_or_default()
}

/// The bytes of the canonical form.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    // Room for most commands.
    let mut bytes = Vec::with_capacity(512);
    write_canonical(value, &mut bytes);
    bytes
}

/// Sorts keys itself: whether `serde_json` does depends on the features that other crates enable.
fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(entries) => {
            out.push(b'{');
            if entries.keys().is_sorted() {
                write_entries(entries, out);
            } else {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                write_entries(entries, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                out.extend((at > 0).then_some(b','));
                write_canonical(item, out);
            }
            out.push(b']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            write_json(value, out);
        }
    }
}

fn write_entries<'v>(
    entries: impl IntoIterator<Item = (&'v String, &'v Value)>,
    out: &mut Vec<u8>,
) {
    for (at, (key, value)) in entries.into_iter().enumerate() {
        out.extend((at > 0).then_some(b','));
        write_json(key, out);
        out.push(b':');
        write_canonical(value, out);
    }
}

/// Scalars, in the form that `serde_json` writes.
fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    // Neither a scalar nor writing to memory can fail.
    let _ = serde_json::to_writer(out, value);
}
