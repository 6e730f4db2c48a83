//! How long a campaign lasts: takes the name of a quantity and the shortest form, gives the number. `tests/campaign` sets the long
//! forms. Used by `tests/lab/*.rs` as `#[path = "../common/campaign.rs"] mod campaign;`.
#![allow(unreachable_pub, clippy::allow_attributes, missing_docs, reason = "each test crate uses its own part")]

/// The number in `INFRA_CAMPAIGN_<what>`, or `short` where that is not set.
///
/// # Panics
/// Where it is set to something else than a number.
pub fn amount(what: &str, short: u32) -> u32 {
    match std::env::var(format!("INFRA_CAMPAIGN_{what}")) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("INFRA_CAMPAIGN_{what} is `{text}`: {e}")),
        Err(_) => short,
    }
}
