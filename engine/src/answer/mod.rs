//! What a step asks for: reading answers, comparing and uniting them.
//!
//! A [`Question`] is resolved once from what a step says ([`Question::resolve`]); from then on acceptance,
//! agreement, value, gold answers, models of reliability and the schema for clients use that one decision:
//!
//! | what | how |
//! | --- | --- |
//! | is this an answer to it? | [`Question::read`] makes an [`Answer`], or says what, where and how to mend it |
//! | are two answers the same? | `==` of two [`Answer`]s; there is no other notion of it |
//! | how alike are two? | [`Question::similarity`] |
//! | how far do people agree? | [`Question::agreement`] |
//! | who gave what? | [`Ballot`] |
//! | what is the one value? | [`Question::unite`] |
//! | what does each step of a revision ask? | [`Questions`] |
//! | is an answer to a gold task right? | [`Question::judge`] |
//! | which class is it? | [`Question::class`], [`Answer::name`] |
//! | what does a client send? | [`Question::data_schema`] |
//!
//! Everything here is pure, does not depend on the order of people, and is bounded: [`Work`] says how many
//! steps one decision may take.
//!
//! # Examples
//!
//! ```
//! use glyph_workflow_engine::answer::{Asked, Question, Rule, Work};
//! use serde_json::{Value, json};
//!
//! let answer = serde_json::from_value(json!({"field": "tags", "kind": "set"}))?;
//! let question = Question::resolve(&Asked { answer: Some(&answer), ..Asked::default() })
//!     .expect("the question is sound");
//! let read = |data: Value| question.read(&data, &Value::Null);
//! let a = read(json!({"tags": ["cat", "dog"]}))?;
//! let b = read(json!({"tags": ["dog", "cat", "cow"]}))?;
//!
//! let mut work = Work::of_decision();
//! assert_eq!(question.agreement(&[&a, &b], &mut work).agreement, Some(2.0 / 3.0));
//! let united = question.unite(&[&a, &b], &Rule::default(), &Value::Null, &mut work);
//! assert_eq!(united.value, Some(json!(["cat", "dog"])));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Most matches here are on forms of JSON, which gain no variants. Matches on kinds of answer and on
// metrics name every one.
#![allow(clippy::wildcard_enum_match_arm)]

mod agreement;
mod ballot;
mod error;
mod form;
mod gold;
mod kinds;
#[cfg(test)]
mod properties;
mod question;
mod questions;
mod reader;
mod resolve;
#[cfg(test)]
mod tests;
mod unite;
mod value;
mod work;

pub use agreement::{Agreement, FieldAgreement};
pub use ballot::{Ballot, Candidate};
pub use error::{AnswerError, Problem};
pub use gold::Verdict;
pub use question::{FieldQuestion, Question, data_of};
pub use questions::{Questions, UnclearQuestion};
pub use reader::value_at;
pub use resolve::{Asked, Comparison, FaultCode, QuestionFault};
pub use unite::{Rule, United, UnitedField};
pub use value::Answer;
pub use work::{TooMuch, Work};
