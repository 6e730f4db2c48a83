//! `monitoring.alerts:`: takes the tree, gives what is different of alerts of the table, reports names and values that it does not have.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::diagnostic::Diagnostic;
use crate::inventory::alerts::{Alert, Table, table};
use crate::inventory::raw::{Entry, Node, Value};
use crate::inventory::read::{Problems, any_of};
use crate::inventory::site::Tuning;

/// How long an alert must hold; the key of the table, too.
const FOR: &str = "for";
/// What nobody is told of for a day need not be an alert.
const LONGEST: Duration = Duration::from_hours(24);

/// Reads the section.
pub(super) fn alerts(section: &Entry, problems: &mut Problems) -> BTreeMap<String, Tuning> {
    let table = match table() {
        Ok(table) => table,
        Err(error) => {
            problems.push(error.at(&section.key.mark.span()));
            return BTreeMap::new();
        }
    };
    let entries =
        problems.named(section, "write `ReplicaLag: { for: 5m, lag_seconds: 60 }` below it").unwrap_or_default();
    let mut wanted = BTreeMap::new();
    for entry in entries {
        let name = entry.key.text.as_str();
        let Some(alert) = table.alerts.iter().find(|alert| alert.name == name) else {
            unknown(entry, &table, problems);
            continue;
        };
        if let Some(tuning) = tuning(entry, alert, &table, problems) {
            wanted.insert(name.to_owned(), tuning);
        }
    }
    wanted
}

fn unknown(entry: &Entry, table: &Table, problems: &mut Problems) {
    let names = || table.alerts.iter().map(|alert| alert.name.as_str());
    let hint = problems.near(&entry.key.text, table.alerts.len(), names());
    let all = || format!("there are {}", names().collect::<Vec<_>>().join(", "));
    problems.push(
        Diagnostic::error(format!("there is no alert `{}`", entry.key.text))
            .at(&entry.key.mark.span())
            .help(hint.unwrap_or_else(all)),
    );
}

/// `for` and the limits of one alert; a person's own words about anything else.
fn tuning(entry: &Entry, alert: &Alert, table: &Table, problems: &mut Problems) -> Option<Tuning> {
    let keys: Vec<&str> = std::iter::once(FOR).chain(table.limits_of(alert)).collect();
    let keys_are = format!("its keys are {}", any_of(&keys).replace(" or ", " and "));
    let Value::Map(entries) = &entry.value.value else {
        if !matches!(entry.value.value, Value::Broken) {
            let message = format!("`{}` must be a map, found {}", alert.name, entry.value.kind());
            problems.push(Diagnostic::error(message).at(&entry.key.mark.span()).help(keys_are));
        }
        return None;
    };
    let mut tuning = Tuning::default();
    for Entry { key, value } in entries {
        if key.text == FOR {
            tuning.holds =
                problems.duration(value, FOR, Duration::ZERO..=LONGEST, ": who is told after that learns nothing new");
        } else if keys.contains(&key.text.as_str()) {
            tuning.limits.extend(limit(value, &key.text, problems).map(|number| (key.text.clone(), number)));
        } else {
            let hint = problems.near(&key.text, keys.len(), keys.iter().copied());
            let message = format!("unknown key `{}` in `{}`", key.text, alert.name);
            problems
                .push(Diagnostic::error(message).at(&key.mark.span()).help(hint.unwrap_or_else(|| keys_are.clone())));
        }
    }
    Some(tuning)
}

/// A number that is not negative; of a percentage, at most 100.
fn limit(node: &Node, key: &str, problems: &mut Problems) -> Option<f64> {
    let most = if key.ends_with("_percent") { 100.0 } else { 1e9 };
    let text = problems.text(node, key)?;
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if let Some(number) = text.parse::<f64>().ok().filter(|number| plain && *number <= most) {
        return Some(number);
    }
    problems.push(
        Diagnostic::error(format!("`{key}` cannot be `{text}`"))
            .at(&node.span())
            .help(format!("write a number from 0 to {most}; the unit is part of the key's name")),
    );
    None
}
