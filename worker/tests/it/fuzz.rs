//! Every reader of input from outside, on samples that are changed at random.
//!
//! A target reads one kind of input and checks more than that nothing panics. Its samples are real
//! files of this repository, and what once went wrong: `tests/fuzz/corpus/TARGET`. They are edited
//! with proptest, which makes a failing input small. An input on which something new happens joins
//! the samples for the rest of the run.
//!
//! `GLYPH_FUZZ_SECONDS` says how long each target runs, `GLYPH_FUZZ_SEED` with which random numbers.

mod commands;
mod events;
mod expressions;
mod files;
mod http;
mod properties;
mod workflows;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

/// How long a target runs in every run of the tests.
const SECONDS: u64 = 3;
/// How long one input may take: far longer than any does, also in a debug build on a busy machine.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);
/// Longest input, in bytes.
const INPUT_MAX: usize = 64 << 10;
/// Inputs between two looks at the clock.
const ROUND: u32 = 64;

/// One kind of input.
struct Target {
    name: &'static str,
    /// Real files, beside those of its folder.
    samples: Vec<Vec<u8>>,
    /// What an edit may insert.
    words: &'static [&'static str],
    /// Reads an input, and panics where something is wrong. Returns what happened, in few words.
    check: fn(&[u8]) -> String,
}

/// A change of an input: what is done, where, with what, how much.
type Edit = (u8, Index, Index, u8);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder with an ending, in the order of their names.
fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return Vec::new();
    };
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let is_wanted = |path: &&PathBuf| path.is_file() && path.to_string_lossy().ends_with(ending);
    let wanted = paths.iter().filter(is_wanted);
    wanted.map(|path| fs::read(path).unwrap()).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn run(mut target: Target) {
    let folder = format!("tests/fuzz/corpus/{}", target.name);
    target.samples.extend(files(&folder, ""));
    assert!(!target.samples.is_empty(), "{} has no samples", target.name);
    let begun = Instant::now();
    let until = begun + Duration::from_secs(number("GLYPH_FUZZ_SECONDS", SECONDS));
    let mut known: HashSet<String> = HashSet::new();
    for sample in &target.samples {
        known.insert(checked(&target, sample));
    }
    let (mut inputs, mut round) = (0_u64, number("GLYPH_FUZZ_SEED", 1) << 32);
    while Instant::now() < until {
        round += 1;
        inputs += u64::from(ROUND);
        for (what, input) in one_round(&target, round) {
            if known.insert(what) {
                target.samples.push(input);
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    eprintln!(
        "{}: {inputs} inputs, {:.0} a second, {} samples, {} things happened",
        target.name,
        inputs as f64 / took,
        target.samples.len(),
        known.len()
    );
}

fn checked(target: &Target, input: &[u8]) -> String {
    let begun = Instant::now();
    let what = (target.check)(input);
    let took = begun.elapsed();
    assert!(took < INPUT_TIME_MAX, "it took {took:?}");
    what
}

/// Checks edited samples; returns what happened, with the inputs.
fn one_round(target: &Target, number: u64) -> Vec<(String, Vec<u8>)> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let config = Config {
        cases: ROUND,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let edit = (0..7_u8, any::<Index>(), any::<Index>(), any::<u8>());
    let edits = (any::<Index>(), prop::collection::vec(edit, 1..6));
    let found = RefCell::new(Vec::new());
    let result = runner.run(&edits, |(sample, edits)| {
        let input = edited(target, sample, &edits);
        let begun = Instant::now();
        found.borrow_mut().push(((target.check)(&input), input));
        let took = begun.elapsed();
        if took < INPUT_TIME_MAX {
            Ok(())
        } else {
            Err(TestCaseError::fail(format!("it took {took:?}")))
        }
    });
    match result {
        Ok(()) => found.into_inner(),
        Err(TestError::Fail(reason, (sample, edits))) => {
            let input = edited(target, sample, &edits);
            let path = std::env::temp_dir().join(format!("glyph-fuzz-{}", target.name));
            fs::write(&path, &input).unwrap();
            panic!(
                "{}: {reason}\nThe input is in {}: {}",
                target.name,
                path.display(),
                input.escape_ascii()
            );
        }
        Err(TestError::Abort(reason)) => panic!("{}: {reason}", target.name),
    }
}

/// A sample after edits.
fn edited(target: &Target, sample: Index, edits: &[Edit]) -> Vec<u8> {
    let mut input = sample.get(&target.samples).clone();
    for (kind, at, with, amount) in edits {
        let at = at.index(input.len() + 1);
        let end = input.len().min(at + usize::from(*amount));
        let word = with.get(target.words).as_bytes();
        match kind {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << (amount % 8);
                }
            }
            1 => input.insert(at, *amount),
            2 => replace(&mut input, at, end, b""),
            3 => replace(&mut input, at, at, word),
            4 => {
                // A word in the place of another one.
                let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                let length = input[at..].iter().take_while(is_word).count();
                replace(&mut input, at, at + length, word);
            }
            5 => {
                let part = input[at..end].to_vec();
                let to = with.index(input.len() + 1);
                replace(&mut input, to, to, &part);
            }
            _ => {
                let other = with.get(&target.samples);
                let from = at.min(other.len());
                let to = other.len().min(from + usize::from(*amount));
                replace(&mut input, at, at, &other[from..to]);
            }
        }
    }
    input.truncate(INPUT_MAX);
    input
}

fn replace(input: &mut Vec<u8>, from: usize, to: usize, by: &[u8]) {
    input.splice(from..to, by.iter().copied()).for_each(drop);
}

/// An error text for people: not empty, and not endless. What it quotes may have control characters:
/// they are escaped where it is shown.
fn check_text(text: &str) {
    assert!(!text.trim().is_empty(), "an error says nothing");
    assert!(text.len() <= 16 << 10, "an error of {} bytes", text.len());
}

/// What an error says before it quotes something.
fn kind_of(text: &str) -> String {
    let begin = text.split(['`', '"', '\'']).next().unwrap_or_default();
    begin.chars().filter(|c| !c.is_numeric()).take(60).collect()
}

#[test]
fn commands_are_read_or_refused_with_a_reason() {
    run(commands::target());
}

#[test]
fn properties_and_headers_are_read_as_they_are_written() {
    run(properties::target());
}

#[test]
fn workflow_files_are_read_or_refused_with_a_place_and_help() {
    run(workflows::target());
}

#[test]
fn expressions_end_with_a_value_or_a_reason() {
    run(expressions::target());
}

#[test]
fn stored_events_are_read_in_their_newest_form_and_replayed() {
    run(events::target());
}

#[test]
fn every_answer_of_the_api_is_documented() {
    run(http::target());
}

#[test]
fn files_of_tokens_settings_and_imports_are_read_and_give_no_secret_away() {
    run(files::tokens());
    run(files::settings());
    run(files::imports());
}
