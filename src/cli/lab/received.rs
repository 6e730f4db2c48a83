//! `lab received`: what the hosts' agents have posted to what stands for the monitoring service, by host and source category.

use std::collections::{BTreeMap, BTreeSet};

use super::open;
use super::which::LabName;
use crate::base::net::HostName;
use crate::base::visible;
use crate::cli::exit;
use crate::cli::stop::{Done, Stop};
use crate::lab::{self, Post};
use crate::report::Reporter;
use crate::report::text::count;

/// Characters of a line that are shown.
const WIDTH: usize = 100;

/// `lab received`.
#[derive(Debug, Clone, clap::Args)]
pub struct LabReceived {
    /// Which lab
    #[command(flatten)]
    pub lab: LabName,
    /// Only what this host has sent
    #[arg(value_name = "HOST")]
    pub host: Option<HostName>,
}

pub(super) fn run(args: &LabReceived, reporter: &Reporter) -> Done {
    let lab = open(&args.lab)?;
    if let Some(host) = args.host.as_ref().filter(|host| lab.spec().host(host.as_str()).is_none()) {
        let known: Vec<&str> = lab.spec().hosts.iter().map(|host| host.name.as_str()).collect();
        let help = format!("its hosts are {}", known.join(", "));
        return Err(Stop::Refused(format!("the lab `{}` has no host `{host}`", lab.name()), vec![help]));
    }
    let text = of(&lab, args.host.as_ref())?;
    if text.is_empty() {
        reporter.note("nothing has arrived so far");
    }
    reporter.data(&text)?;
    Ok(exit::DONE)
}

/// What `host` has sent, or all hosts; empty where nothing has arrived.
pub(super) fn of(lab: &lab::Lab, host: Option<&HostName>) -> Result<String, Stop> {
    let wanted = |post: &Post| host.is_none_or(|host| post.host == host.as_str());
    Ok(text(&lab.received()?.into_iter().filter(wanted).collect::<Vec<_>>()))
}

/// The posts of one category.
#[derive(Default)]
struct Category<'a> {
    accepted: usize,
    refused: usize,
    lines: usize,
    names: BTreeSet<&'a str>,
    last: &'a str,
}

/// By host and category: how much came, and the last line of it.
fn text(posts: &[Post]) -> String {
    let mut hosts: BTreeMap<&str, BTreeMap<&str, Category<'_>>> = BTreeMap::new();
    for post in posts {
        let of = hosts.entry(&post.host).or_default().entry(&post.category).or_default();
        if !post.is_accepted() {
            of.refused += 1;
            continue;
        }
        of.accepted += 1;
        for line in post.body.lines().filter(|line| !(post.is_measures() && line.starts_with('#'))) {
            of.lines += 1;
            of.last = line;
            if post.is_measures() {
                of.names.insert(line.split(['{', ' ']).next().unwrap_or_default());
            }
        }
    }
    let mut out = String::new();
    for (host, categories) in hosts {
        out.push_str(&format!("{}\n", visible::line(host)));
        for (category, of) in categories {
            let what = if of.names.is_empty() {
                count(of.lines, "line")
            } else {
                format!("{} of {}", count(of.names.len(), "measure"), count(of.lines, "value"))
            };
            let refused = if of.refused == 0 { String::new() } else { format!(", {} refused", of.refused) };
            let posts = format!("{}{refused}", count(of.accepted, "post"));
            out.push_str(&format!("  {}: {what} in {posts}\n", visible::line(category)));
            if !of.last.is_empty() {
                let last: String = of.last.chars().take(WIDTH).collect();
                out.push_str(&format!("    {}\n", visible::line(&last)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_told_by_host_and_category() {
        let post = |status: u16, category: &str, kind: &str, body: &str| Post {
            at: 0.0,
            status,
            host: "web1".into(),
            category: category.into(),
            kind: kind.into(),
            body: body.into(),
        };
        let measures = "application/vnd.sumologic.prometheus";
        let posts = [
            post(200, "shop/web/metrics", measures, "# TYPE a gauge\na{host=\"web1\"} 1\nb 2\na 3\n"),
            post(503, "shop/web/nginx/access", "text/plain", "{\"status\":200}"),
            post(200, "shop/web/nginx/access", "text/plain", "{\"status\":200}\n{\"status\":\u{1b}404}"),
        ];
        let said = text(&posts);
        let expected = "web1\n  shop/web/metrics: 2 measures of 3 values in 1 post\n    a 3\n  \
                        shop/web/nginx/access: 2 lines in 1 post, 1 refused\n    ";
        assert!(said.starts_with(expected), "{said}");
        assert!(!said.contains('\u{1b}'), "{said}");
    }
}
