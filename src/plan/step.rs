//! A step on the controller's side, as data: what a plan holds beside the actions of hosts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a step on the controller's side is. Whoever carries steps out goes through all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A certificate is ordered, and brought to the hosts that show it.
    Order,
}

impl StepKind {
    /// What it is called: `order`.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Order => "order",
        }
    }

    /// What it is about, as a person says it.
    pub fn object(self, subject: &str) -> String {
        match self {
            Self::Order => format!("the certificate of {subject}"),
        }
    }

    /// So many of them, as something that is to be done: `1 certificate to order`.
    pub fn to_do(self, number: usize) -> String {
        let plural = if number == 1 { "" } else { "s" };
        match self {
            Self::Order => format!("{number} certificate{plural} to order"),
        }
    }

    /// What is done with that: `ordered`.
    pub fn done(self) -> &'static str {
        match self {
            Self::Order => "ordered",
        }
    }
}

/// A step on the controller's side, after the last phase. It is shown, saved, executed and reported as actions are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What kind of step.
    pub kind: StepKind,
    /// What it is about: `shop.example.com`.
    pub subject: String,
    /// One sentence: `the certificate of shop.example.com is ordered from ca.example: there is no certificate yet`.
    pub title: String,
    /// It in full, a line each.
    pub lines: Vec<String>,
    /// All that is executed, nothing left out: what programs are shown, and what a saved plan is held against, by part.
    pub deed: Value,
}

/// A step that is due and waits for its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// What kind of step.
    pub kind: StepKind,
    /// What it is about.
    pub subject: String,
    /// Until when, seconds since 1970.
    pub until: i64,
    /// Why, a sentence.
    pub why: String,
}
