//! stub
use crate::base::net::Invalid;
use crate::plan::ruleset::Ruleset;
use crate::plan::state::ObservedFirewall;
/// s
pub fn observe_fragment() -> String {
    "emit firewall ''".into()
}
/// s
pub fn parse_observed(_t: &str) -> Result<ObservedFirewall, Invalid> {
    Ok(ObservedFirewall::default())
}
/// s
pub fn check_script(_r: &Ruleset) -> String {
    "true".into()
}
/// s
pub fn check_title(_r: &Ruleset) -> &'static str {
    "nft -c"
}
/// s
pub fn load_script(_r: &Ruleset) -> String {
    "true".into()
}
/// s
pub fn load_stdin(_r: &Ruleset) -> String {
    String::new()
}
/// s
pub fn confirm_script(_r: &Ruleset) -> String {
    "true".into()
}
