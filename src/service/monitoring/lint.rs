//! The structure of the collector's configuration: takes the fragments of a host by name, and the variables that its environment files
//! set, gives what is wrong with them in words. The collector's own `validate` passes much of this: a component that nothing uses, a
//! list that another file replaces, an empty variable, an address without its scheme.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// What the package's own `sumologic.yaml` defines (its repository, `assets/sumologic.yaml`).
const BASE: [(&str, &[&str]); 4] = [
    ("receivers", &["otlp"]),
    ("processors", &["memory_limiter", "batch", "sumologic", "resourcedetection/system"]),
    ("exporters", &["sumologic"]),
    ("extensions", &["sumologic", "health_check", "file_storage"]),
];
/// Types of receivers that the maker's distribution has (its `.otelcol-builder.yaml`) and a web infrastructure may use, with what they give.
const RECEIVERS: [(&str, &[&str]); 18] = [
    ("apache", &["metrics"]),
    ("chrony", &["metrics"]),
    ("filelog", &["logs"]),
    ("filestats", &["metrics"]),
    ("haproxy", &["metrics"]),
    ("hostmetrics", &["metrics"]),
    ("httpcheck", &["metrics"]),
    ("journald", &["logs"]),
    ("memcached", &["metrics"]),
    ("mysql", &["metrics"]),
    ("nginx", &["metrics"]),
    ("otlp", &["metrics", "logs", "traces"]),
    ("postgresql", &["metrics"]),
    ("prometheus", &["metrics"]),
    ("redis", &["metrics"]),
    ("statsd", &["metrics"]),
    ("syslog", &["logs"]),
    ("tcplog", &["logs"]),
];
const PROCESSORS: [&str; 11] = [
    "attributes",
    "batch",
    "cumulativetodelta",
    "filter",
    "groupbyattrs",
    "memory_limiter",
    "metricstransform",
    "resource",
    "resourcedetection",
    "sumologic",
    "transform",
];
const EXPORTERS: [&str; 4] = ["debug", "otlp", "otlphttp", "sumologic"];
/// Keys whose value is a secret.
const SECRETS: [&str; 6] = ["password", "token", "installation_token", "install_token", "api_key", "bearer_token"];
/// Of a receiver that asks over HTTP, the key with the address; one of `HAProxy` may ask a socket.
const ADDRESSES: [&str; 3] = ["haproxy", "nginx", "apache"];
/// Names of measures begin like this, by receiver, where they are switched on or off.
const MEASURES: [(&str, &str); 4] =
    [("hostmetrics", "system."), ("mysql", "mysql."), ("haproxy", "haproxy."), ("nginx", "nginx.")];

/// What was read of all fragments.
#[derive(Default)]
struct Read {
    /// By section and id: the fragment that defines it.
    defined: BTreeMap<(String, String), String>,
    used: BTreeSet<(String, String)>,
    pipelines: BTreeSet<String>,
    problems: Vec<String>,
}

/// Everything that is wrong. No value is repeated: one may be a secret in the wrong place.
pub(super) fn problems(fragments: &[(String, String)], variables: &[&str]) -> Vec<String> {
    let mut read = Read::default();
    let mut pipelines = Vec::new();
    for (name, text) in fragments {
        if let Some(number) = text.lines().position(|line| line.trim_start_matches(' ').starts_with('\t')) {
            read.problems.push(format!("{name}:{}: a tab stands where YAML takes spaces only", number + 1));
            continue;
        }
        let sections = match serde_yaml::from_str::<Value>(text) {
            Ok(Value::Object(sections)) => sections,
            Ok(_) => {
                read.problems.push(format!("{name}: it has no sections"));
                continue;
            }
            Err(error) => {
                let error = error.to_string();
                read.problems.push(format!("{name}: {}", error.lines().next().unwrap_or_default()));
                continue;
            }
        };
        for (section, value) in &sections {
            match section.as_str() {
                "receivers" | "processors" | "exporters" | "extensions" => read.components(name, section, value),
                "service" => pipelines.extend(read.service(name, value)),
                _ => read.problems.push(format!("{name}: the collector has no section `{section}`")),
            }
        }
        read.secrets(name, "", &Value::Object(sections), variables);
    }
    for (name, id, pipeline) in &pipelines {
        read.pipeline(name, id, pipeline);
    }
    let unused = read.defined.iter().filter(|(key, _)| key.0 != "extensions" && !read.used.contains(*key));
    let unused = unused.map(|((section, id), name)| format!("{name}: no pipeline uses `{id}` of `{section}`"));
    let unused: Vec<String> = unused.collect();
    read.problems.extend(unused);
    read.problems
}

fn kind(id: &str) -> &str {
    id.split('/').next().unwrap_or(id)
}

fn is_base(section: &str, id: &str) -> bool {
    BASE.iter().any(|(one, ids)| *one == section && ids.contains(&id))
}

impl Read {
    fn components(&mut self, name: &str, section: &str, value: &Value) {
        let Value::Object(all) = value else {
            self.problems.push(format!("{name}: `{section}` is no map of components"));
            return;
        };
        for (id, settings) in all {
            let mut wrong = |why: String| self.problems.push(format!("{name}: `{id}` of `{section}` {why}"));
            let known = match section {
                "receivers" => RECEIVERS.iter().any(|(kind_of, _)| *kind_of == kind(id)),
                "processors" => PROCESSORS.contains(&kind(id)),
                "exporters" => EXPORTERS.contains(&kind(id)),
                _ => is_base(section, id),
            };
            if !known {
                wrong("is of a kind that infra does not know in the maker's collector".into());
            } else if section == "extensions" {
                if !settings.is_object() {
                    wrong("has no settings".into());
                } else if lists(settings) {
                    wrong("has a list, which would replace that of the package".into());
                }
            } else if is_base(section, id) || !id.contains('/') {
                wrong(format!(
                    "would change what the package defines: give it a name of its own, `{}/infra`",
                    kind(id)
                ));
            }
            if section == "receivers" && known {
                for why in receiver(kind(id), settings) {
                    wrong(why);
                }
            }
            if let Some(before) = self.defined.insert((section.to_owned(), id.clone()), name.to_owned()) {
                self.problems.push(format!("{name}: `{id}` of `{section}` stands in {before} already"));
            }
        }
    }

    /// The pipelines of a fragment.
    fn service(&mut self, name: &str, value: &Value) -> Vec<(String, String, Value)> {
        let Value::Object(service) = value else {
            self.problems.push(format!("{name}: `service` is no map"));
            return Vec::new();
        };
        for key in service.keys().filter(|key| *key != "pipelines") {
            self.problems
                .push(format!("{name}: `service.{key}` would replace what the package says there: leave it out"));
        }
        let Some(pipelines) = service.get("pipelines") else { return Vec::new() };
        let Value::Object(pipelines) = pipelines else {
            self.problems.push(format!("{name}: `service.pipelines` is no map"));
            return Vec::new();
        };
        pipelines.iter().map(|(id, pipeline)| (name.to_owned(), id.clone(), pipeline.clone())).collect()
    }

    fn pipeline(&mut self, name: &str, id: &str, pipeline: &Value) {
        let mut wrong = |why: String| self.problems.push(format!("{name}: the pipeline `{id}` {why}"));
        let signal = kind(id);
        if !["metrics", "logs", "traces"].contains(&signal) {
            wrong("carries neither `metrics` nor `logs` nor `traces`".into());
        }
        if !id.contains('/') || id.ends_with("/default") {
            wrong(format!("would replace one of the package's: give it a name of its own, `{signal}/infra`"));
        }
        if !self.pipelines.insert(id.to_owned()) {
            wrong("stands in two fragments".into());
        }
        let empty = Map::new();
        let parts = pipeline.as_object().unwrap_or(&empty);
        for key in parts.keys().filter(|key| !["receivers", "processors", "exporters"].contains(&key.as_str())) {
            wrong(format!("has a key `{key}`, which no pipeline has"));
        }
        for (section, needed) in [("receivers", true), ("processors", false), ("exporters", true)] {
            let listed = parts.get(section).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            if needed && listed.is_empty() {
                wrong(format!("has no `{section}`"));
            }
            for (at, item) in listed.iter().enumerate() {
                let Some(item) = item.as_str() else {
                    wrong(format!("has a word in `{section}` that is no name"));
                    continue;
                };
                let key = (section.to_owned(), item.to_owned());
                if !self.defined.contains_key(&key) && !is_base(section, item) {
                    wrong(format!("names `{item}` of `{section}`, which no fragment defines"));
                }
                if section == "receivers" {
                    let gives = RECEIVERS.iter().find(|(kind_of, _)| *kind_of == kind(item)).map(|(_, gives)| *gives);
                    if gives.is_some_and(|gives| !gives.contains(&signal)) {
                        wrong(format!("takes `{item}`, which gives no {signal}"));
                    }
                }
                if kind(item) == "memory_limiter" && at > 0 {
                    wrong("limits memory behind another processor: `memory_limiter` comes first".into());
                }
                if listed.iter().take(at).any(|before| before.as_str() == Some(item)) {
                    wrong(format!("names `{item}` twice"));
                }
                self.used.insert(key);
            }
        }
    }

    /// Secrets and variables, wherever they stand.
    fn secrets(&mut self, name: &str, key: &str, value: &Value, variables: &[&str]) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| self.secrets(name, key, value, variables)),
            Value::Array(list) => list.iter().for_each(|item| self.secrets(name, key, item, variables)),
            Value::String(text) => {
                // `$$` is a dollar sign.
                let text = text.replace("$$", "");
                let whole = text.starts_with("${env:") && text.ends_with('}') && text.matches('$').count() == 1;
                if SECRETS.contains(&key) && !whole {
                    self.problems.push(format!("{name}: `{key}` is a secret, and stands here: write `${{env:NAME}}`"));
                }
                for part in text.split('$').skip(1) {
                    let variable =
                        part.strip_prefix("{env:").and_then(|rest| rest.split_once('}')).map(|(name, _)| name);
                    match variable {
                        None => self.problems.push(format!(
                            "{name}: `{key}` has a `$` that begins no `${{env:NAME}}`: write `$$` for the sign itself"
                        )),
                        Some(variable) if !variables.contains(&variable) => self.problems.push(format!(
                            "{name}: `{key}` asks for the variable `{variable}`, which no environment file of the collector sets"
                        )),
                        Some(_) => {}
                    }
                }
            }
            _ if SECRETS.contains(&key) => {
                self.problems.push(format!("{name}: `{key}` is a secret, and stands here: write `${{env:NAME}}`"));
            }
            _ => {}
        }
    }
}

/// Whether a list stands anywhere in it.
fn lists(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(map) => map.values().any(lists),
        _ => false,
    }
}

/// What is wrong with the settings of a receiver.
fn receiver(kind: &str, settings: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let text = |key: &str| settings.get(key).and_then(Value::as_str).unwrap_or_default();
    let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    if ADDRESSES.contains(&kind)
        && !is_url(text("endpoint"))
        && !(kind == "haproxy" && text("endpoint").starts_with('/'))
    {
        wrong.push("has no `endpoint` that begins with `http://`".into());
    }
    if kind == "httpcheck" {
        let targets = settings.get("targets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let asked = |target: &Value| target.get("endpoint").and_then(Value::as_str).is_some_and(is_url);
        if targets.is_empty() || !targets.iter().all(asked) {
            wrong.push("has a target without an `endpoint` that begins with `http://`".into());
        }
    }
    if kind == "filelog" && settings.get("include").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        wrong.push("has no `include` with the files to read".into());
    }
    // A part of what would be read anew, or lost, after each restart.
    if ["filelog", "journald"].contains(&kind) && text("storage") != "file_storage" {
        wrong.push("does not keep how far it has read: write `storage: file_storage`".into());
    }
    if let Some((_, begins)) = MEASURES.iter().find(|(of, _)| *of == kind) {
        let scrapers = settings.get("scrapers").and_then(Value::as_object);
        let each = scrapers.into_iter().flat_map(Map::values).chain([settings]);
        let named = each.filter_map(|one| one.get("metrics")?.as_object()).flatten();
        for (measure, setting) in named {
            if !measure.starts_with(begins) {
                wrong.push(format!("switches `{measure}`, and its measures begin with `{begins}`"));
            } else if setting.get("enabled").and_then(Value::as_bool).is_none() {
                wrong.push(format!("does not say `enabled: true` or `false` of `{measure}`"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
extensions: { sumologic: { collector_name: web1 } }
receivers:
  hostmetrics/infra:
    scrapers: { cpu: { metrics: { system.cpu.utilization: { enabled: true } } }, load: {} }
  mysql/infra: { endpoint: /run/mysqld/mysqld.sock, password: "${env:PASSWORD}" }
  haproxy/infra: { endpoint: "http://127.0.0.1:8405/stats" }
  filelog/infra-a: { include: [/var/log/a.log], storage: file_storage, multiline: { line_start_pattern: "^a$$" } }
processors:
  resource/infra: { attributes: [] }
service:
  pipelines:
    metrics/infra:
      receivers: [hostmetrics/infra, mysql/infra, haproxy/infra]
      processors: [memory_limiter, resource/infra]
      exporters: [sumologic]
    logs/infra: { receivers: [filelog/infra-a], processors: [memory_limiter], exporters: [sumologic] }
"#;

    fn lint(text: &str) -> Vec<String> {
        problems(&[("20.yaml".into(), text.into())], &["PASSWORD"])
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(lint(GOOD), [""; 0]);
    }

    /// What is written instead of what, and what is said of it.
    const CASES: [(&str, &str, &str); 40] = [
        (
            "receivers: [hostmetrics/infra,",
            "receivers: [hostmetrics/infrb,",
            "`hostmetrics/infrb` of `receivers`, which no fragment defines",
        ),
        (
            "[memory_limiter, resource/infra]",
            "[memory_limiter, resource/other]",
            "`resource/other` of `processors`, which no fragment",
        ),
        (
            "resource/infra]\n      exporters: [sumologic]",
            "resource/infra]\n      exporters: [sumo]",
            "`sumo` of `exporters`, which no fragment",
        ),
        ("[memory_limiter, resource/infra]", "[memory_limiter]", "no pipeline uses `resource/infra` of `processors`"),
        ("hostmetrics/infra, mysql/infra,", "hostmetrics/infra,", "no pipeline uses `mysql/infra` of `receivers`"),
        ("[memory_limiter, resource/infra]", "[resource/infra, memory_limiter]", "`memory_limiter` comes first"),
        (
            "hostmetrics/infra, mysql/infra,",
            "hostmetrics/infra, mysql/infra, mysql/infra,",
            "names `mysql/infra` twice",
        ),
        ("      exporters: [sumologic]\n", "", "has no `exporters`"),
        ("      receivers: [hostmetrics/infra, mysql/infra, haproxy/infra]\n", "", "has no `receivers`"),
        (
            "      receivers: [hostmetrics/infra, mysql/infra, haproxy/infra]\n",
            "      receivers: []\n",
            "has no `receivers`",
        ),
        (
            "logs/infra: { receivers: [filelog/infra-a]",
            "logs/infra: { receivers: [mysql/infra]",
            "`mysql/infra`, which gives no logs",
        ),
        ("haproxy/infra]", "haproxy/infra, filelog/infra-a]", "`filelog/infra-a`, which gives no metrics"),
        ("    logs/infra:", "    log/infra:", "carries neither"),
        ("    logs/infra:", "    logs/default:", "would replace one of the package's"),
        ("    logs/infra:", "    logs:", "would replace one of the package's"),
        ("  pipelines:", "  extensions: [sumologic]\n  pipelines:", "`service.extensions` would replace"),
        ("  pipelines:", "  telemetry: {}\n  pipelines:", "`service.telemetry` would replace"),
        ("  resource/infra:", "  memory_limiter:", "would change what the package defines"),
        ("  resource/infra: ", "  resource: ", "`resource` of `processors` would change"),
        ("haproxy/infra: {", "haproxyy/infra: {", "`haproxyy/infra` of `receivers` is of a kind"),
        (
            "resource/infra: { attributes",
            "resources/infra: { attributes",
            "`resources/infra` of `processors` is of a kind",
        ),
        ("extensions: { sumologic:", "extensions: { sumologics:", "`sumologics` of `extensions` is of a kind"),
        ("{ collector_name: web1 }", "{ collector_name: web1, x: [a] }", "has a list, which would replace"),
        ("\"http://127.0.0.1:8405/stats\"", "\"127.0.0.1:8405/stats\"", "`endpoint` that begins with `http://`"),
        ("{ endpoint: \"http://127.0.0.1:8405/stats\" }", "{}", "`endpoint` that begins with `http://`"),
        ("include: [/var/log/a.log]", "include: []", "has no `include`"),
        (", storage: file_storage", "", "does not keep how far it has read"),
        ("system.cpu.utilization:", "cpu.utilization:", "switches `cpu.utilization`"),
        ("{ enabled: true }", "{ enable: true }", "does not say `enabled: true`"),
        ("${env:PASSWORD}", "hunter2", "`password` is a secret, and stands here"),
        ("\"${env:PASSWORD}\"", "123456", "`password` is a secret, and stands here"),
        ("${env:PASSWORD}", "x${env:PASSWORD}", "`password` is a secret, and stands here"),
        ("{ collector_name: web1 }", "{ installation_token: U1VNT2xhYi1 }", "`installation_token` is a secret"),
        ("${env:PASSWORD}", "${env:PASSWORT}", "the variable `PASSWORT`, which no environment file"),
        ("collector_name: web1", "collector_name: \"${NAME}\"", "begins no `${env:NAME}`"),
        ("\"^a$$\"", "\"^a$\"", "write `$$` for the sign itself"),
        ("  mysql/infra:", "  hostmetrics/infra:", "duplicate"),
        ("  mysql/infra:", "\tmysql/infra:", "a tab stands where YAML"),
        ("processors:\n  resource", "processor:\n  resource", "no section `processor`"),
        ("service:", "service: [", "20.yaml: "),
    ];

    #[test]
    fn each_mistake_is_named() {
        for (right, wrong, says) in CASES {
            assert!(GOOD.contains(right), "{right}");
            let said = lint(&GOOD.replacen(right, wrong, 1));
            assert!(said.iter().any(|one| one.contains(says)), "{wrong}: {said:?}");
            assert!(said.iter().all(|one| !one.contains("hunter2") && !one.contains("123456")), "{said:?}");
        }
    }

    #[test]
    fn fragments_stand_beside_each_other() {
        let of = |second: &str| {
            problems(&[("20.yaml".into(), GOOD.into()), ("30.yaml".into(), second.into())], &["PASSWORD"])
        };
        let third = "receivers: { nginx/infra: { endpoint: \"http://127.0.0.1/s\" } }\n\
                     service: { pipelines: { metrics/infra-web: { receivers: [nginx/infra], processors: [resource/infra], exporters: [sumologic] } } }";
        assert_eq!(of(third), [""; 0]);
        let said = of(&third.replace("nginx/infra", "mysql/infra"));
        assert!(
            said.contains(&"30.yaml: `mysql/infra` of `receivers` stands in 20.yaml already".to_owned()),
            "{said:?}"
        );
        let said = of(&third.replace("metrics/infra-web", "metrics/infra"));
        assert!(said.iter().any(|one| one.contains("stands in two fragments")), "{said:?}");
    }

    #[test]
    fn a_fragment_may_be_anything() {
        for text in [
            "",
            "[]",
            "a",
            "receivers: []",
            "service: 1",
            "service: { pipelines: [] }",
            "service: { pipelines: { metrics/a: 1 } }",
        ] {
            assert!(!lint(text).is_empty(), "{text}");
        }
    }
}
