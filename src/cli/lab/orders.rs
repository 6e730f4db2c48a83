//! Clients of the demonstration: takes a lab, has several of them order through all tiers without a pause, gives what came of each
//! order; looks on the database hosts whether all that was acknowledged is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::base::fsx;
use crate::cli::stop::Stop;
use crate::lab::{Lab, Target};

/// How many order at once.
const CLIENTS: usize = 3;

/// `sh -c SCRIPT sh URL DIR`: each client keeps what was said, and for each order a line with the status and the seconds. They end
/// when DIR/stop is there, or by themselves.
const SCRIPT: &str = r#"
order() {
	until [ -e "$2/stop" ]; do curl -sS --max-time 15 -X POST -w '%{http_code} %{time_total}\n' "$1"; done >"$2/$3" 2>&1
}
for n in $CLIENTS; do order "$1" "$2" "$n" & done
wait
"#;

/// Clients that order without a pause.
pub(super) struct Orders {
    clients: Child,
    folder: PathBuf,
    began: Instant,
}

/// What came of them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// The numbers of those that were acknowledged, by the host that has written them.
    pub(super) taken: BTreeMap<String, BTreeSet<String>>,
    /// The words of those that were not.
    pub(super) lost: Vec<String>,
    /// How long the longest took, in seconds.
    pub(super) longest: f64,
}

impl Orders {
    /// They begin.
    pub(super) fn begin(lab: &Lab, url: &str) -> Result<Self, Stop> {
        let folder = lab.dir().join("outside/orders");
        if folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        fsx::private_dir(&folder)?;
        let names: Vec<String> = (0..CLIENTS).map(|n| n.to_string()).collect();
        let script = SCRIPT.replace("$CLIENTS", &names.join(" "));
        let dir = folder.to_string_lossy();
        let mut clients = lab.command(&Target::Outside, ["timeout", "120", "sh", "-c", &script, "sh", url, &dir])?;
        let clients = clients.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Self { clients, folder, began: Instant::now() })
    }

    /// Waits until `host` has written as many orders.
    pub(super) fn wait(&self, host: &str, many: usize) -> Result<(), Stop> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let told = self.told()?;
            if told.taken.get(host).map_or(0, BTreeSet::len) >= many {
                return Ok(());
            }
            if Instant::now() > deadline {
                let last = told.lost.last().map_or("", String::as_str);
                return Err(Stop::Failed(anyhow::anyhow!("{host} has not written {many} orders within 30 s: {last}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// They end. Gives what came of all orders, and for how long they went on.
    pub(super) fn end(mut self) -> Result<(Told, Duration), Stop> {
        fs_err::write(self.folder.join("stop"), "")?;
        self.clients.wait()?;
        let told = self.told()?;
        fs_err::remove_dir_all(&self.folder)?;
        Ok((told, self.began.elapsed()))
    }

    fn told(&self) -> Result<Told, Stop> {
        let mut all = Told::default();
        for n in 0..CLIENTS {
            let path = self.folder.join(n.to_string());
            all.join(&read(&path)?);
        }
        Ok(all)
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        // After `end` it is no process any more; else it ends itself when its time is over.
        let _ = std::fs::write(self.folder.join("stop"), "");
    }
}

/// The lines of a client that writes on; those of its first moment may be missing.
fn read(path: &Path) -> Result<String, Stop> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

impl Told {
    /// Adds the orders of a client. One whose last line is not there yet is no order yet.
    fn join(&mut self, text: &str) {
        let (mut words, mut order) = (String::new(), None);
        for line in text.lines() {
            if let Some(took) = line.strip_prefix("201 ").and_then(|took| took.parse::<f64>().ok()) {
                self.longest = self.longest.max(took);
                match order.take() {
                    Some((id, host)) => drop(self.taken.entry(host).or_default().insert(id)),
                    None => self.lost.push(std::mem::take(&mut words)),
                }
            } else if is_end(line) {
                self.lost.push(format!("{words}{line}"));
            } else {
                order = number(line).or(order);
                words = format!("{line}; ");
                continue;
            }
            words.clear();
            order = None;
        }
    }

    /// How many were acknowledged.
    pub(super) fn answered(&self) -> usize {
        self.taken.values().map(BTreeSet::len).sum()
    }

    /// Those that `stored`, the numbers on a host, does not have.
    pub(super) fn missing<'a>(&'a self, stored: &BTreeSet<&str>) -> Vec<&'a str> {
        self.taken.values().flatten().map(String::as_str).filter(|id| !stored.contains(id)).collect()
    }
}

/// Whether it is the line that ends an order: a status, and seconds.
fn is_end(line: &str) -> bool {
    line.split_once(' ')
        .is_some_and(|(status, took)| status.len() == 3 && status.parse::<u16>().is_ok() && took.parse::<f64>().is_ok())
}

/// The number of an order, and the host that has written it.
pub(super) fn number(line: &str) -> Option<(String, String)> {
    let (id, rest) = line.strip_prefix("order ")?.split_once(": ")?;
    let (_, host) = rest.split_once(", written to ")?;
    Some((id.to_owned(), host.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_is_acknowledged_or_lost() {
        let mut told = Told::default();
        told.join(
            "order 0a: taken by app1, written to db1\n201 0.031\n<html>\n<h1>502</h1>\n502 0.002\ncurl: (7) refused\n000 0.001\n\
             order 0b: taken by app2, written to db2\n201 0.500\norder 0c: taken by app2, written to db2\n",
        );
        told.join("no number\n201 0.001\n");
        let of = |host: &str| told.taken[host].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!((of("db1"), of("db2"), told.answered()), (vec!["0a"], vec!["0b"], 2));
        assert_eq!(told.lost, ["<h1>502</h1>; 502 0.002", "curl: (7) refused; 000 0.001", "no number; "]);
        assert!((told.longest - 0.5).abs() < f64::EPSILON);
        assert_eq!(told.missing(&BTreeSet::from(["0a"])), ["0b"]);
    }
}
