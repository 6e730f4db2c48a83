//! The databases as a person reads them: takes their state, or the findings of a preflight, gives a screen of 80 columns. What is wrong
//! comes last, with the way out.

use std::fmt::Write as _;

use super::text::{Paint, clean, count, folded};
use crate::inventory::site::Site;
use crate::service::database::preflight::{Finding, Verdict, bytes, milliseconds};
use crate::service::database::status::{HostView, Part, View};

/// The whole screen, with a line end.
pub fn draw(site: &Site, view: &View, paint: Paint) -> String {
    let mut out = format!("{}\n\n", paint.strong(&head(site, view)));
    let rows: Vec<[String; 8]> =
        std::iter::once(["host", "is", "writes", "behind", "semi-sync", "TLS", "data", "free"].map(str::to_owned))
            .chain(view.hosts.iter().map(row))
            .collect();
    let mut widths = [0_usize; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let line = format!("  {}", cells.join("  "));
        let line = line.trim_end();
        let _ = writeln!(out, "{}", if index == 0 { paint.faint(line) } else { clean(line) });
    }
    for host in view.hosts.iter().filter(|host| host.version.is_some()) {
        out.push('\n');
        for line in about(host) {
            out.push_str(&folded(&clean(&line), 2));
        }
    }
    for (minor, title) in [(false, "not as it should be"), (true, "worth knowing")] {
        let those: Vec<_> = view.troubles.iter().filter(|trouble| trouble.minor == minor).collect();
        if those.is_empty() {
            continue;
        }
        let title = if minor { paint.warn(title) } else { paint.bad(title) };
        let _ = writeln!(out, "\n{title}");
        for trouble in those {
            let place = trouble.host.as_ref().map_or_else(String::new, |host| format!("{host}: "));
            out.push_str(&folded(&clean(&format!("{place}{}", trouble.what)), 2));
            out.push_str(&folded(&clean(&trouble.help), 6));
        }
    }
    out
}

fn head(site: &Site, view: &View) -> String {
    let writer = match (&view.writer, view.epoch) {
        (Some(writer), Some(epoch)) => {
            let since = view.since.as_deref().map_or("", |since| since.get(..16).unwrap_or(since));
            format!("{writer} writes since {since} UTC, epoch {epoch}")
        }
        _ => "nobody writes yet".to_owned(),
    };
    format!("{} of {}: {writer}", view.engine, site.name)
}

fn row(host: &HostView) -> [String; 8] {
    let none = || "-".to_owned();
    let writes = host.fenced.map_or_else(none, |fenced| if fenced { "fenced" } else { "open" }.to_owned());
    let behind = match host.part {
        Part::Replica => host.lag_ms.map_or_else(|| "?".to_owned(), milliseconds),
        _ => none(),
    };
    let semi_sync = match (host.semi_sync, host.semi_sync_clients) {
        (Some(true), Some(clients)) => format!("on, by {clients}"),
        (Some(false), _) => "off".to_owned(),
        _ => none(),
    };
    [
        host.host.to_string(),
        host.part.as_str().to_owned(),
        writes,
        behind,
        semi_sync,
        host.tls_days.map_or_else(none, |days| format!("{days} d")),
        host.size.map_or_else(none, bytes),
        host.free.map_or_else(none, bytes),
    ]
}

/// What does not fit the table, a line each.
fn about(host: &HostView) -> Vec<String> {
    let mut lines = Vec::new();
    let version = host.version.as_deref().unwrap_or_default();
    let sessions = usize::try_from(host.sessions.unwrap_or(0)).unwrap_or(usize::MAX);
    lines.push(format!("{}: {version}, {} of users", host.host, count(sessions, "session")));
    if let Some(source) = &host.follows {
        let thread = |name: &Option<String>| name.as_deref().unwrap_or("no").to_ascii_lowercase();
        lines.push(format!(
            "  follows {source}: receiving {}, applying {}",
            thread(&host.receiving),
            thread(&host.applying)
        ));
    }
    if let Some(executed) = host.executed.as_deref().filter(|executed| !executed.is_empty()) {
        let received = host.received.as_deref().map_or_else(String::new, |received| format!("; received {received}"));
        lines.push(format!("  has {executed}{received}"));
    }
    if let (Some(number), Some(size)) = (host.binlogs, host.binlog_bytes) {
        let since = host
            .binlogs_since
            .map_or_else(String::new, |at| format!(", the oldest of {}", super::certificates::moment(at)));
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        lines.push(format!("  {}, {}{since}", count(number, "binary log"), bytes(size)));
    }
    lines
}

/// The findings of a preflight as a table, those that are not good with what to do.
pub fn preflight(findings: &[Finding], paint: Paint) -> String {
    let width = |cell: fn(&Finding) -> &str, most: usize| {
        findings.iter().map(|finding| cell(finding).chars().count()).max().unwrap_or(0).min(most)
    };
    let (hosts, settings) = (width(|f| f.host.as_str(), 20), width(|f| &f.setting, 34));
    let mut out = String::new();
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => paint.good("ok"),
            Verdict::Warning => paint.warn("! "),
            Verdict::Stop => paint.bad("no"),
        };
        let (host, setting) = (finding.host.as_str(), finding.setting.as_str());
        let now = clean(&finding.now);
        if finding.verdict == Verdict::Good {
            let _ = writeln!(out, "  {mark}  {host:<hosts$}  {setting:<settings$}  {now}");
            continue;
        }
        let _ = writeln!(out, "  {mark}  {host:<hosts$}  {setting}");
        out.push_str(&folded(&format!("now: {now}"), 8));
        out.push_str(&folded(&format!("needed: {}", clean(&finding.needed)), 8));
        if let Some(help) = &finding.help {
            out.push_str(&folded(&format!("do: {}", clean(help)), 8));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text::SCREEN;
    use crate::service::database::group::Group;
    use crate::service::database::preflight::findings;
    use crate::service::database::sample::{self, edit, fleet, name, nothing, server, site};
    use crate::service::database::status::tests::of;

    #[test]
    fn a_screen_has_80_columns() {
        let mut bad = fleet();
        server(&mut bad, "db2", |server| server.version = "10.11.19-MariaDB-0+deb12u1-log".into());
        edit(&mut bad, "db2", |_, now| {
            let words = "Could not execute Write_rows_v1 event on table shop.t; Duplicate entry '7' for key 'PRIMARY', Error_code: 1062";
            now.threads.iter_mut().for_each(|one| one.sql_error = Some((1062, words.into())));
            now.state = sample::gtid("1-101-900,1-102-901");
        });
        bad.remove(&name("db3"));
        let (good, bad) = (
            draw(&site(), &of(&fleet(), &nothing()), Paint::default()),
            draw(&site(), &of(&bad, &nothing()), Paint::default()),
        );
        for screen in [&good, &bad] {
            assert!(screen.lines().all(|line| line.chars().count() <= SCREEN), "{screen}");
        }
        insta::assert_snapshot!("database_good", good);
        insta::assert_snapshot!("database_bad", bad);
    }

    #[test]
    fn findings_are_a_table() {
        let (site, mut observed) = (site(), fleet());
        edit(&mut observed, "db2", |_, now| now.heartbeat_ms = Some(60_000));
        let answers = "reach\tdb1\tyes\naccount\tdb1\t1\nlong\t75\tshop@10.0.3.11:40000\t812\t3000\n";
        let found = findings(&site, &Group::of(&site, &observed), &name("db2"), Some(answers));
        let screen = preflight(&found, Paint::default());
        assert!(screen.lines().all(|line| line.chars().count() <= SCREEN), "{screen}");
        insta::assert_snapshot!("database_preflight", screen);
    }
}
