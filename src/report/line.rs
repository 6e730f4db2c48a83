//! Every line that `--json` prints: one shape for each event, told apart by `event`, and their JSON Schema. Fields may be added,
//! none is renamed or removed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Value, json};

use super::certificates::{AuthorityLine, CertificateLine};
use super::json::{DiagnosticLine, OutcomeLine, PlanLine};
use super::keys::KeyLine;
use super::origin::Kept;
use super::status::lines::{HostLine, StatusLine};
use crate::base::net::HostName;
use crate::fleet::beforehand::Closes;
use crate::fleet::event::Event;
use crate::fleet::exec::End;
use crate::fleet::explain::Explained;
use crate::fleet::gone::Gone;
use crate::fleet::journals::Past;
use crate::fleet::measure::Measured;
use crate::fleet::saved::Ticket;
use crate::fleet::status::SiteView;
use crate::lab::HostStatus;
use crate::pki::records::Records;
use crate::plan::said::Finding;
use crate::service::database::change::Change;
use crate::service::database::failover::Witness;
use crate::service::database::preflight;
use crate::service::database::status::View;
use crate::service::firewall::explain::Explanation;
use crate::service::firewall::matrix::Matrix;

/// One line of `infra --json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line<'a> {
    /// What would be done, or is done next: `diff`, `apply`, `cert renew`.
    Plan(PlanLine<'a>),
    /// What became of the hosts of a plan: `apply`, `cert renew`. Where the controller had steps, a last one is of the whole run, and
    /// its `exit` is that of the program.
    Outcome(OutcomeLine<'a>),
    /// What is wrong, or odd, with something that a person wrote.
    Diagnostic(DiagnosticLine),
    /// How many diagnostics there are, where not all were told.
    Diagnostics {
        /// All errors.
        errors: usize,
        /// All warnings.
        warnings: usize,
        /// How many of both were told.
        shown: usize,
    },
    /// Why a verb ended, or what it went on without.
    Error {
        /// A sentence.
        message: &'a str,
        /// What caused it, the nearest first.
        causes: &'a [String],
        /// What to do, each a sentence.
        help: &'a [String],
    },
    /// What the first firewall of a host closes that is in use there: `diff`, `apply`.
    Closes(&'a Closes),
    /// Nothing is wrong with an inventory: `check`.
    Checked {
        /// Its name.
        name: &'a HostName,
        /// How many hosts it has.
        hosts: usize,
        /// How many sites it has.
        sites: usize,
        /// How many flows follow from it.
        flows: usize,
        /// How many files its hosts get.
        files: usize,
        /// How many warnings were told.
        warnings: usize,
    },
    /// A certificate: how it is (`cert status`), or what a step of its renewal came to (`diff`, `apply`, `cert renew`).
    Certificate(Box<CertificateLine<'a>>),
    /// An internal authority: `cert status`.
    Authority(AuthorityLine<'a>),
    /// A host that was not asked for its certificates: `cert status`.
    Unasked {
        /// Which.
        host: &'a HostName,
        /// Why.
        why: &'a str,
    },
    /// What belongs into the zone of a site: `cert records`.
    Records(&'a Records),
    /// Who may talk to whom, as declared: `firewall matrix`.
    Matrix(&'a Matrix),
    /// Whether a connection is let through, and why: `firewall explain`.
    Explanation(&'a Explanation),
    /// Who can talk to whom, as measured: `firewall verify`.
    Measured(&'a Measured),
    /// The group of databases: `db status`.
    Database(&'a View),
    /// What was looked at before another host becomes the writer: `db switchover`.
    Preflight {
        /// The host.
        writer: &'a HostName,
        /// Whether nothing stops it.
        passes: bool,
        /// Each thing that was looked at.
        findings: &'a [preflight::Finding],
    },
    /// What the hosts see of a writer that is taken for dead: `db failover`.
    Witnesses {
        /// That writer.
        writer: &'a HostName,
        /// What each place sees.
        witnesses: &'a [Witness],
    },
    /// What came of a change of the writer: `db switchover`, `db failover`.
    WriterChanged {
        /// The host that writes from now on.
        writer: &'a HostName,
        /// What came of it.
        #[serde(flatten)]
        change: &'a Change,
    },
    /// A host as it is: `status`.
    HostStatus(Box<HostLine<'a>>),
    /// A site as it is: `status`.
    SiteStatus(&'a SiteView),
    /// Something that is not as it should be: `status`.
    Finding(&'a Finding),
    /// The fleet as it is, after all of its hosts, sites and findings: `status`.
    Status(StatusLine<'a>),
    /// Whether a host gets requests: `drain`, `undrain`.
    Traffic {
        /// The host.
        host: &'a HostName,
        /// Whether it is marked as drained.
        drained: bool,
        /// Whether that was seen on all who lead to it, and, of a drained host, that nothing is under way on it.
        seen: bool,
        /// By whom it was not seen, and why, each a part of a sentence.
        left: &'a BTreeMap<HostName, Vec<String>>,
    },
    /// What a command said on hosts, all the same: `exec`.
    Executed {
        /// The hosts.
        hosts: &'a [&'a HostName],
        /// What came of it.
        #[serde(flatten)]
        end: &'a End,
    },
    /// A key that a host shows: `trust --all`.
    HostKey(&'a KeyLine<'a>),
    /// A past run: `history`.
    Run(&'a Past),
    /// Something that infra keeps on a host: `explain`.
    Kept {
        /// The host.
        host: &'a HostName,
        /// What.
        #[serde(flatten)]
        kept: &'a Kept,
    },
    /// Where a line of a host's file comes from: `explain`.
    Explained(&'a Explained),
    /// A host that has left the inventory, and who still trusts it: `diff`, `apply`.
    Gone(&'a Gone),
    /// What the manual says of a key of the inventory: `docs`.
    Key {
        /// Its path, with `HOST`, `SITE` … for names that a person chooses.
        path: &'a str,
        /// Its comment, and the key as an example; null where only the keys are listed.
        text: Option<&'a str>,
    },
    /// Files were written on this machine: `init`, `render`, `alerts`, `accept`.
    Written {
        /// The folder, or the one file.
        to: &'a str,
        /// What was written there, by paths below that folder; empty for the one file.
        files: &'a [String],
    },
    /// A text for a person that has no fields: the change of a template (`accept`), what a former writer alone has (`db rejoin --show`),
    /// what a lab has received.
    Text {
        /// With its line ends.
        text: &'a str,
    },
    /// A lab that is up: `lab status`.
    Lab {
        /// Its name.
        name: &'a str,
        /// Its hosts.
        hosts: &'a [HostStatus],
    },
    /// What happens while a run goes on.
    #[serde(untagged)]
    Progress(&'a Event),
}

/// The JSON Schema of [`Line`] (draft 2020-12): `oneOf` is the list of all events.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Line<'_>>().to_value();
    // The events of a run are a list of their own in the code, and stand among the others here.
    let of_run = schema.pointer_mut("/$defs/Event/oneOf").map(Value::take);
    if let Some(fields) = schema.as_object_mut()
        && let (Some(Value::Array(mut events)), Some(Value::Array(of_run))) = (fields.remove("anyOf"), of_run)
    {
        events.retain(|event| event.pointer("/properties/event").is_some());
        events.extend(of_run);
        fields.insert("oneOf".to_owned(), Value::Array(events));
        if let Some(Value::Object(definitions)) = fields.get_mut("$defs") {
            definitions.remove("Event");
        }
    }
    schema
}

/// The JSON Schema of a plan (draft 2020-12): the line `plan` of `diff --json`, or the file that `diff --out` writes.
pub fn plan_schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let (shown, kept) = (generator.subschema_for::<PlanLine<'_>>(), generator.subschema_for::<Ticket>());
    let definitions = generator.take_definitions(true);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Plan of infra",
        "oneOf": [
            {
                "description": "The line `plan` of `infra diff --json`: what would be done.",
                "properties": { "event": { "const": "plan", "type": "string" } },
                "required": ["event"],
                "allOf": [shown],
            },
            {
                "description": "What `infra diff --out` writes and `infra apply --plan` takes: digests of what was shown, under a key \
                                of the state folder.",
                "allOf": [kept],
            },
        ],
        "$defs": definitions,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The fields of an object of the schema, by what they may be; `?` after one that may be left out.
    fn fields(schema: &Value, object: &Value) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        if let Some(name) = object["$ref"].as_str() {
            all.extend(fields(schema, schema.pointer(name.trim_start_matches('#')).unwrap()));
        }
        let required: Vec<&Value> = object["required"].as_array().into_iter().flatten().collect();
        for (name, _) in object["properties"].as_object().into_iter().flatten().filter(|(name, _)| *name != "event") {
            let mark = if required.iter().any(|one| *one == name) { "" } else { "?" };
            all.insert(format!("{name}{mark}"));
        }
        all
    }

    /// What programs lean on: a line that goes from this table, or changes, breaks them.
    #[test]
    fn the_table() {
        let schema = schema();
        let mut table = String::new();
        let mut names = BTreeSet::new();
        for event in schema["oneOf"].as_array().unwrap() {
            let name = event.pointer("/properties/event/const").unwrap().as_str().unwrap();
            assert!(names.insert(name), "`{name}` has two shapes");
            assert!(event["description"].is_string(), "`{name}` is not described");
            let fields: Vec<String> = fields(&schema, event).into_iter().collect();
            table.push_str(&format!("{name}: {}\n", fields.join(", ")));
        }
        for (name, view) in schema["$defs"].as_object().unwrap() {
            let parts = view["oneOf"].as_array().map_or(std::slice::from_ref(view), Vec::as_slice);
            for part in parts.iter().filter(|part| part["properties"].is_object()) {
                let tags = part["properties"].as_object().unwrap().values().filter_map(|field| field["const"].as_str());
                let title: Vec<&str> = [name.as_str()].into_iter().chain(tags).collect();
                let fields: Vec<String> = fields(&schema, part).into_iter().collect();
                table.push_str(&format!("  {}: {}\n", title.join(" "), fields.join(", ")));
            }
        }
        insta::assert_snapshot!(table);
    }
}
