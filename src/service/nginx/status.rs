//! nginx as it runs: takes what a host says of its workers and their error log, gives what of their room is taken, and how often it was
//! not enough.

use serde::{Deserialize, Serialize};

use crate::plan::said::Said;
use crate::plan::state::{Observed, Part};
use crate::service::room::Taken;
use crate::service::status::{Gauge, Seen};

/// What was read.
const READ: Part<Readings> = Part::passing("web");

/// Looks at the files of each worker, and at the last of the error log.
pub(in crate::service) const GAUGE: Gauge = Gauge { script, read };

/// Each connection of a worker is a file of its process (proc(5)), so that the smaller one of both limits holds. The words are those of
/// `ngx_get_connection`, and those of the C library for `ENFILE` and `EMFILE`.
fn script() -> String {
    r#"main=$(cat run/nginx.pid 2>/dev/null) && [ -n "$main" ] && [ -r "proc/$main/task/$main/children" ] || exit 0
connections=$(sed -n 's/^ *worker_connections \([0-9]*\);.*/\1/p' etc/nginx/nginx.conf)
for pid in $(cat "proc/$main/task/$main/children"); do
	case $(tr '\0' ' ' <"proc/$pid/cmdline") in *'shutting down'*) continue ;; *'worker process'*) ;; *) continue ;; esac
	echo "worker $(ls "proc/$pid/fd" | wc -l) $(awk '/^Max open files/ { print $4 }' "proc/$pid/limits") ${connections:-0}"
done 2>/dev/null
since=$(date -d '-1 hour' '+%Y/%m/%d %H:%M:%S') && tail -c 1000000 var/log/nginx/error.log 2>/dev/null | awk -v since="$since" '
	$1 " " $2 < since { next }
	/worker_connections are not enough/ { count["connections"]++; last["connections"] = $2 }
	/\(2[34]: Too many open files/ { count["files"]++; last["files"] = $2 }
	END { for (what in count) print "short", what, count[what], last[what] }' | sort"#
        .to_owned()
}

/// All that was read at one look.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Readings {
    /// Of each worker that takes connections: its files, and how many it may have.
    workers: Vec<(u64, u64)>,
    /// What was not enough within the last hour: connections or files, how often, and when last.
    short: Vec<(String, u64, String)>,
}

fn read(answer: &str, observed: &mut Observed) {
    let mut readings = Readings::default();
    for line in answer.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match words.as_slice() {
            ["worker", ..] => {
                let (Some(are), Some(files), Some(connections)) = (number(1), number(2), number(3)) else { continue };
                readings.workers.push((are, if connections == 0 { files } else { files.min(connections) }));
            }
            ["short", what @ ("connections" | "files"), _, last] => {
                let Some(count) = number(2) else { continue };
                readings.short.push(((*what).to_owned(), count, (*last).to_owned()));
            }
            _ => {}
        }
    }
    if readings != Readings::default() {
        READ.put(&readings, observed);
    }
}

/// What hosts with nginx tell: the fullest worker of each, and what was not enough.
pub(in crate::service) fn tell(seen: &Seen<'_>) -> Said {
    let help = "more files for a process (`fs.nr_open`, or the limit of a container) make room at the next `infra apply`; another host \
                of the role takes a part of the load";
    let mut said = Said::default();
    for (host, observed) in seen.observed {
        let Some(readings) = READ.of(observed) else { continue };
        if let Some((are, most)) = readings.workers.into_iter().max_by_key(|(are, most)| are * 1000 / most.max(&1)) {
            Taken { are, most }.find(host, ("a worker of nginx ", "connections"), help, &mut said);
        }
        for (what, count, last) in readings.short {
            let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
            let what =
                format!("nginx did not have enough {what} {times} within the last hour, at {last} the last time");
            said.find(Some(host), false, what, help);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::tests::told;

    const INVENTORY: &str = "name: shop
hosts:
  lb1: { address: 10.0.1.11, roles: [lb] }
  web1: { address: 10.0.1.12, roles: [web] }
firewall: { manage_from: [10.0.0.0/24] }
sites: { a.example.com: { static: { root: /srv/x, prefix: / } } }
certificates: { issuer: internal }
";

    #[test]
    fn what_is_nearly_taken_and_what_was_not_enough_is_told() {
        for (answer, expected) in [
            ("", vec![]),
            ("worker 20 1024 512\nworker 30 1024 512\n", vec![]),
            (
                "worker 20 1024 512\nworker 470 1024 512\n",
                vec!["a worker of nginx has 470 of the 512 connections that it has room for"],
            ),
            (
                "worker 1000 1024 65536\n",
                vec!["a worker of nginx has 1000 of the 1024 connections that it has room for"],
            ),
            ("worker 1000 1024 0\n", vec!["a worker of nginx has 1000 of the 1024 connections that it has room for"]),
            (
                "short connections 7 17:01:02\nshort files 1 17:01:03\n",
                vec![
                    "nginx did not have enough connections 7 times within the last hour, at 17:01:02 the last time",
                    "nginx did not have enough files once within the last hour, at 17:01:03 the last time",
                ],
            ),
            ("worker x y\nshort\nshort rain 3 now\nworker 1 0 0\nnonsense\n", vec![]),
        ] {
            let said = told(INVENTORY, GAUGE, &[("web1", answer)], tell);
            let what: Vec<&str> = said.findings.iter().map(|finding| finding.what.as_str()).collect();
            assert_eq!(what, expected, "{answer}");
        }
    }
}
